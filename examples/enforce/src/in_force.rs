//! The program that the kernel has, for whoever asks from another thread.

use std::sync::{Arc, PoisonError, RwLock};

use netpol_core::program::Program;

/// The program that was last put into force, shared between threads: an [`Enforcer`](crate::Enforcer) replaces it,
/// records of denied packets are explained with it. A clone is a handle to the same.
#[derive(Clone, Debug)]
pub struct InForce(Arc<RwLock<Numbered>>);

/// A program with its number.
#[derive(Clone, Debug)]
pub struct Numbered {
    /// How many programs have been put into force by this process; 0 for the empty one at the beginning.
    pub generation: u64,
    /// What the kernel judges by, as far as is known.
    pub program: Program,
}

impl InForce {
    pub(crate) fn new(program: Program) -> Self {
        Self(Arc::new(RwLock::new(Numbered { generation: 0, program })))
    }

    /// The program of now. It does not change any more once it is got.
    pub fn get(&self) -> Numbered {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The number of the program of now.
    pub fn generation(&self) -> u64 {
        self.0.read().unwrap_or_else(PoisonError::into_inner).generation
    }

    pub(crate) fn set(&self, program: Program) {
        let mut held = self.0.write().unwrap_or_else(PoisonError::into_inner);
        held.generation += 1;
        held.program = program;
    }
}
