//! Wiring: a whole node, the demo cluster, HTTP.
