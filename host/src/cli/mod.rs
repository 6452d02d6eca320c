//! The program's commands.

pub mod check;
