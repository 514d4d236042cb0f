//! Deterministic simulation of the cores with checkers and planted bugs.
