//! From SQL text to a physical plan.
