//! What `check` and `explain` have in common: input, two ends and a port.

use clap::Args;
use netpol_core::model::Traffic;
use netpol_core::program::{Explanation, Program};

use crate::exit::{Exit, Failure};
use crate::input::InputArgs;
use crate::notes;
use crate::peer::{Destination, Peer, Port};
use crate::reach::Reach;
use crate::reading::ReadingArgs;
use crate::world::{Party, Way, World};

/// Input, two ends and a port.
#[derive(Args, Debug)]
pub(crate) struct QuestionArgs {
    #[command(flatten)]
    input: InputArgs,
    /// Who connects: namespace/pod, namespace/deploy/name, namespace/[key=value,...] or an address
    #[arg(value_name = "SRC")]
    source: Peer,
    /// To whom, and to which port: `shop/db:5432/tcp`, `[fd00::1]:53/udp`, `shop/web:http`, `10.0.0.1:icmp`
    #[arg(value_name = "DST[:PORT[/PROTOCOL]]")]
    destination: Destination,
    /// Take what the API server would not accept, or not understand, for an error
    #[arg(long)]
    strict: bool,
    /// The connection is made to a service's address, behind which DST is: another question only for a pod that
    /// reaches itself
    #[arg(long)]
    via_service: bool,
    #[command(flatten)]
    readings: ReadingArgs,
}

/// A question about ends that exist.
pub(crate) struct Question {
    program: Program,
    source: Party,
    destination: Party,
    port: Option<Port>,
    /// From address to address, or by name.
    ways: Vec<Way>,
    /// All of the input has been read.
    complete: bool,
}

/// What the policies say.
pub(crate) enum Answer {
    /// On one port, for each way between the two.
    Port(Vec<Explanation>),
    /// On all ports, by every way between the two.
    AnyPort(Reach),
}

impl QuestionArgs {
    pub(crate) fn ask(&self) -> Result<Question, Failure> {
        let input = self.input.read().map_err(Failure::input)?;
        notes::tell(&input);
        let complete = input.is_complete(self.strict);
        let mut world = World::new(input, self.readings.options(), self.input.default_namespace());
        let source = world.resolve(&self.source).map_err(Failure::input)?;
        let destination = world.resolve(&self.destination.peer).map_err(Failure::input)?;
        let ways = world.ways(&source, &destination).map_err(Failure::input)?;
        let ways = ways.into_iter().map(|way| Way { via_service: self.via_service, ..way });
        let ways = ways.collect();
        world.keep_only([&source, &destination]);
        let program = world.program();
        let port = self.destination.port.clone();
        Ok(Question { program, source, destination, port, ways, complete })
    }
}

impl Question {
    pub(crate) fn answer(&self) -> Result<Answer, Failure> {
        let Some(port) = &self.port else {
            return Ok(Answer::AnyPort(Reach::new(&self.program, &self.ways)));
        };
        let explain = |way: &Way| {
            let traffic: Traffic = self.destination.traffic(port, &way.destination)?;
            Ok(self.program.explain(&way.flow(traffic)))
        };
        let explanations: anyhow::Result<_> = self.ways.iter().map(explain).collect();
        explanations.map(Answer::Port).map_err(Failure::input)
    }

    pub(crate) fn source(&self) -> String {
        self.source.label()
    }

    pub(crate) fn destination(&self) -> String {
        self.destination.label()
    }

    /// An answer from a part of the input is none.
    pub(crate) fn exit(&self, allowed: bool) -> Exit {
        match (self.complete, allowed) {
            (false, _) => Exit::BadInput,
            (true, true) => Exit::Success,
            (true, false) => Exit::Negative,
        }
    }
}
