//! Failures of the API server and the network, key rotation, and clocks that jump.

mod clocks;
mod failure;
mod first_second;
mod matrix;
mod rotation;
mod watch;
