//! Drivers around the cores: event loops, group commit, timers, transport.
