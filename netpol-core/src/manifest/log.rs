use std::cell::RefCell;

use super::error::{Concern, Error, ObjectRef, Reason, Warning};

/// Everything found out about one object while it is read.
///
/// Reading always produces a value: where a rule is broken, the fault goes here and the reader goes on with the
/// fail-closed reading. Only at the end it is decided whether the faults reject the object or become warnings.
pub(super) struct Log {
    pub(super) lenient: bool,
    faults: RefCell<Vec<Fault>>,
    notes: RefCell<Vec<(String, Concern, String)>>,
}

/// A broken rule.
pub(super) struct Fault {
    pub(super) path: String,
    pub(super) reason: Reason,
    pub(super) message: String,
    pub(super) otherwise: Otherwise,
}

/// What becomes of a fault with lenient reading.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Otherwise {
    /// The object is rejected all the same: without this nothing can be said.
    Reject,
    /// The place was read in the way that allows nothing.
    FailClosed,
    /// The place was read as it was meant.
    Tolerate,
}

impl Log {
    pub(super) fn new(lenient: bool) -> Self {
        Self { lenient, faults: RefCell::default(), notes: RefCell::default() }
    }

    /// The number of faults so far.
    pub(super) fn faults(&self) -> usize {
        self.faults.borrow().len()
    }

    /// What rejects the object, and what is only told. An object that is not `usable` is rejected in any case.
    pub(super) fn conclude(self, object: &ObjectRef, usable: bool) -> (Vec<Error>, Vec<Warning>) {
        let faults = self.faults.into_inner();
        let rejects = |fault: &Fault| !self.lenient || fault.otherwise == Otherwise::Reject;
        let rejected = !usable || faults.iter().any(rejects);
        let notes = self.notes.into_inner();
        let mut warnings: Vec<Warning> = notes
            .into_iter()
            .map(|(path, concern, message)| Warning {
                object: object.clone(),
                path,
                concern,
                message,
            })
            .collect();
        let mut errors = Vec::new();
        for Fault { path, reason, message, otherwise } in faults {
            let object = object.clone();
            match otherwise {
                _ if rejected => errors.push(Error { object, path, reason, message }),
                Otherwise::Tolerate => {
                    warnings.push(Warning { object, path, concern: Concern::Tolerated, message });
                }
                Otherwise::Reject | Otherwise::FailClosed => {
                    warnings.push(Warning { object, path, concern: Concern::FailClosed, message });
                }
            }
        }
        (errors, warnings)
    }

    pub(super) fn add(&self, fault: Fault) {
        self.faults.borrow_mut().push(fault);
    }

    pub(super) fn note(&self, path: String, concern: Concern, message: String) {
        self.notes.borrow_mut().push((path, concern, message));
    }
}
