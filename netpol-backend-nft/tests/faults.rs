//! What a crash or a failing system call leaves behind: a process that changes the rules is traced,
//! and killed at every one of its system calls in turn, or told that it failed.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test; but without the test harness it does not look like one to the lints"
)]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::panic::catch_unwind;
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};

use netpol_backend_nft::plan::{Plan, Purpose};
use netpol_backend_nft::ruleset::{Family, Ruleset, Table};
use netpol_backend_nft::{Nft, Options, render};
use netpol_core::cluster::Cluster;
use netpol_core::compile::compile;
use netpol_core::program::Program;
use netpol_core::testing::{Choices, edit, world};
use nix::sched::{CloneFlags, unshare};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use support::{busiest_node, open};

/// Set in the process that is traced: the seed of the change that it makes.
const WRITER: &str = "NETPOL_TEST_WRITER";
/// What the writer raises before and after the change; ignored, but its tracer hears of it.
const MARK: Signal = Signal::SIGWINCH;

const CHECKS: &[(&str, fn())] = &[
    ("killed at every system call", killed_at_every_system_call),
    #[cfg(target_arch = "x86_64")]
    ("every system call fails", failing::every_system_call_fails),
];

fn main() -> ExitCode {
    if let Ok(seed) = std::env::var(WRITER) {
        writer(seed.parse().expect("a number"));
        return ExitCode::SUCCESS;
    }
    if let Err(error) = netpol_testbed::enter() {
        println!("SKIPPED EVERYTHING: {error:#}");
        return ExitCode::SUCCESS;
    }
    let mut failed = 0;
    for (name, check) in CHECKS {
        unshare(CloneFlags::CLONE_NEWNET).expect("a fresh namespace");
        let passed = catch_unwind(check).is_ok();
        println!("{}  {name}", if passed { "passed" } else { "FAILED" });
        failed += usize::from(!passed);
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A change from one program to another, or from nothing.
struct Case {
    seed: u64,
    programs: [Program; 2],
    from_nothing: bool,
    /// What is in force before, between and after the steps of its plan.
    states: Vec<BTreeMap<Family, Table>>,
}

impl Case {
    fn new(seed: u64, from_nothing: bool) -> Self {
        let programs = programs(seed);
        let [old, new] = [&programs[0], &programs[1]].map(|it| render(it, &Options::default()));
        let nothing = Ruleset { tables: BTreeMap::new(), ..old.clone() };
        let plan = Plan::new(Some(&old).filter(|_| !from_nothing), new);
        let mut state = if from_nothing { nothing } else { old };
        let mut states = vec![state.tables.clone()];
        for step in plan.steps() {
            step.apply(&mut state);
            states.push(state.tables.clone());
        }
        Self { seed, programs, from_nothing, states }
    }

    /// One change by elements in several steps, one by rules, and one from nothing.
    fn all() -> [Self; 3] {
        let find = |purposes: &[Purpose]| {
            let fits = |seed: &u64| {
                let [old, new] = programs(*seed).map(|it| render(&it, &Options::default()));
                let plan = Plan::new(Some(&old), new);
                let steps: Vec<Purpose> = plan.steps().iter().map(|it| it.purpose()).collect();
                purposes.iter().all(|it| steps.contains(it))
            };
            (0..).find(fits).expect("there is one")
        };
        let by_elements = find(&[Purpose::Close, Purpose::Open]);
        let by_rules = find(&[Purpose::Prepare, Purpose::Switch, Purpose::Clean]);
        [(by_elements, false), (by_rules, false), (by_rules, true)]
            .map(|(seed, from_nothing)| Self::new(seed, from_nothing))
    }

    /// Makes the kernel what it is before the change.
    fn reset(&self) {
        let mut kernel = open();
        kernel.remove().expect("removed");
        if !self.from_nothing {
            kernel.sync(&self.programs[0]).expect("written");
        }
    }

    /// Nothing that is not a state of the plan may be in force; which it is is returned. And whoever
    /// comes next completes the change.
    fn is_recovered_from(&self, context: &str) -> usize {
        let mut kernel = open();
        let found = kernel.read().expect("read").map(|it| it.tables).unwrap_or_default();
        let at = self.states.iter().position(|state| *state == found);
        let at = at.unwrap_or_else(|| panic!("{context}: not a state of the plan: {found:#?}"));
        kernel.sync(&self.programs[1]).expect("completed");
        self.is_made(context);
        at
    }

    /// The change is in force, and nothing is left of what was before.
    fn is_made(&self, context: &str) {
        let mut kernel = open();
        let new = &self.programs[1];
        let found = kernel.read().expect("read").expect("present");
        let wanted = render(new, &Options::default());
        assert_eq!(found.normalised(), wanted.normalised(), "{context}");
        assert_eq!(kernel.verify(new).expect("read"), [], "{context}");
    }
}

fn programs(seed: u64) -> [Program; 2] {
    let mut choices = Choices::from_seed(seed, 3000);
    let (mut objects, options) = world(&mut choices);
    let (other, _) = world(&mut choices);
    let scope = busiest_node(&objects);
    let old = compile(&Cluster::from_objects(options, objects.clone()), scope.clone());
    edit(&mut choices, &mut objects, &other);
    [old, compile(&Cluster::from_objects(options, objects), scope)]
}

/// The process that is traced: makes the change, tells what came of it, and makes it once more.
fn writer(seed: u64) {
    let [old, new] = programs(seed);
    let mut kernel: Nft = open();
    if kernel.read().expect("read").is_some() {
        kernel.sync(&old).expect("compared");
    }
    println!("ready");
    std::io::stdin().read_exact(&mut [0]).expect("told to go on");
    raise(MARK).expect("raised");
    let result = kernel.sync(&new);
    raise(MARK).expect("raised");
    match result {
        Ok(_) => println!("done"),
        Err(error) => println!("failed: {error}"),
    }
    kernel.sync(&new).expect("the next attempt succeeds");
}

/// A writer that stops at every system call.
struct Traced {
    process: Child,
    pid: Pid,
    output: BufReader<ChildStdout>,
}

impl Traced {
    /// Starts a writer and lets it run to its change.
    fn start(seed: u64) -> Self {
        let mut process = Command::new(std::env::current_exe().expect("own path"))
            .env(WRITER, seed.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let pid = Pid::from_raw(process.id().cast_signed());
        let mut output = BufReader::new(process.stdout.take().expect("piped"));
        let mut line = String::new();
        output.read_line(&mut line).expect("it speaks");
        assert_eq!(line.trim(), "ready");
        ptrace::attach(pid).expect("attached");
        assert_eq!(waitpid(pid, None), Ok(WaitStatus::Stopped(pid, Signal::SIGSTOP)));
        let options = ptrace::Options::PTRACE_O_TRACESYSGOOD | ptrace::Options::PTRACE_O_EXITKILL;
        ptrace::setoptions(pid, options).expect("set");
        process.stdin.take().expect("piped").write_all(b"!").expect("told");
        let mut traced = Self { process, pid, output };
        while traced.next() != Stop::Mark {}
        traced
    }

    /// Runs to the next stop: the beginnings and the ends of system calls.
    fn next(&mut self) -> Stop {
        loop {
            ptrace::syscall(self.pid, None).expect("continued");
            match waitpid(self.pid, None).expect("it stops") {
                WaitStatus::PtraceSyscall(_) => return Stop::SystemCall,
                WaitStatus::Stopped(_, MARK) => return Stop::Mark,
                WaitStatus::Stopped(..) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn kill(mut self) {
        self.process.kill().expect("killed");
        self.process.wait().expect("ended");
    }

    /// Lets it run to its end, and returns what it said about its change.
    #[cfg(target_arch = "x86_64")]
    fn finish(mut self) -> String {
        while self.next() != Stop::Mark {}
        ptrace::detach(self.pid, None).expect("let go");
        let mut said = String::new();
        self.output.read_to_string(&mut said).expect("it speaks");
        assert!(self.process.wait().expect("it ends").success(), "{said}");
        said.trim().to_owned()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    SystemCall,
    Mark,
}

/// Whatever is left behind is a state of the plan, so that nothing is open that neither program
/// opens; and the next writer completes the change.
fn killed_at_every_system_call() {
    let mut kills = 0;
    for case in Case::all() {
        let mut found: BTreeMap<usize, usize> = BTreeMap::new();
        for stops in 1.. {
            case.reset();
            let mut writer = Traced::start(case.seed);
            let ended = (0..stops).any(|_| writer.next() == Stop::Mark);
            writer.kill();
            let at = case.is_recovered_from(&format!("seed {}, stop {stops}", case.seed));
            *found.entry(at).or_default() += 1;
            kills += 1;
            if ended {
                break;
            }
        }
        assert!(found.len() > 2, "states seen: {found:?}");
    }
    println!("        killed {kills} times");
    assert!(kills > 50, "{kills}");
}

/// The kernel's answers replaced by errors, which takes the names of registers.
#[cfg(target_arch = "x86_64")]
mod failing {
    use std::collections::BTreeSet;

    use nix::errno::Errno;
    use nix::libc::{SYS_getsockopt, SYS_recvfrom, SYS_recvmsg, SYS_sendmsg, SYS_sendto};
    use nix::sys::ptrace;

    use super::{Case, Stop, Traced};

    /// How a system call fails.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Fault {
        /// It does nothing.
        Instead(Errno),
        /// It does what it should, but tells otherwise.
        Afterwards(Errno),
    }

    fn faults(call: i64) -> Vec<Fault> {
        use Errno::{EAGAIN, EINTR, ENOBUFS, ENOMEM};
        use Fault::{Afterwards, Instead};
        if [SYS_sendto, SYS_sendmsg].contains(&call) {
            vec![Instead(EINTR), Instead(EAGAIN), Instead(ENOBUFS), Afterwards(ENOMEM)]
        } else if [SYS_recvfrom, SYS_recvmsg].contains(&call) {
            vec![Instead(EINTR), Instead(EAGAIN), Instead(ENOBUFS), Instead(ENOMEM)]
        } else if call == SYS_getsockopt {
            vec![Instead(ENOMEM)]
        } else {
            Vec::new()
        }
    }

    /// An interrupted call is repeated; every other failure is told, or does not matter; and the next
    /// attempt of the same process succeeds.
    pub(super) fn every_system_call_fails() {
        let (mut injected, mut errors) = (0, BTreeSet::new());
        for case in Case::all() {
            for (number, call) in calls(&case).into_iter().enumerate() {
                for fault in faults(call) {
                    let context = format!("seed {}, call {number}, {fault:?}", case.seed);
                    let said = inject(&case, number, fault);
                    injected += 1;
                    if said != "done" {
                        assert!(said.starts_with("failed: "), "{context}: {said}");
                        assert_ne!(fault, Fault::Instead(Errno::EINTR), "{context}: {said}");
                        errors.insert(said);
                    }
                    case.is_made(&context);
                }
            }
        }
        println!("        {injected} faults, told as {errors:#?}");
        assert!(injected > 50 && errors.len() > 3, "{injected}, {errors:?}");
    }

    /// The system calls of a change, by their numbers.
    fn calls(case: &Case) -> Vec<i64> {
        case.reset();
        let mut writer = Traced::start(case.seed);
        let mut calls = Vec::new();
        while writer.next() == Stop::SystemCall {
            calls.push(ptrace::getregs(writer.pid).expect("stopped").orig_rax.cast_signed());
            if writer.next() == Stop::Mark {
                break;
            }
        }
        writer.kill();
        calls
    }

    /// Makes one system call of a change fail, and returns what the writer says about it.
    fn inject(case: &Case, number: usize, fault: Fault) -> String {
        case.reset();
        let mut writer = Traced::start(case.seed);
        for _ in 0..number {
            for _ in ["its beginning", "its end"] {
                assert_eq!(writer.next(), Stop::SystemCall);
            }
        }
        assert_eq!(writer.next(), Stop::SystemCall);
        let mut registers = ptrace::getregs(writer.pid).expect("stopped");
        if let Fault::Instead(_) = fault {
            registers.orig_rax = u64::MAX;
            ptrace::setregs(writer.pid, registers).expect("stopped");
        }
        assert_eq!(writer.next(), Stop::SystemCall);
        let (Fault::Instead(errno) | Fault::Afterwards(errno)) = fault;
        let mut registers = ptrace::getregs(writer.pid).expect("stopped");
        registers.rax = (-i64::from(errno as i32)).cast_unsigned();
        ptrace::setregs(writer.pid, registers).expect("stopped");
        writer.finish()
    }
}
