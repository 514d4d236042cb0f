//! TrueTime: interval algebra, Marzullo, the disciplined clock.
