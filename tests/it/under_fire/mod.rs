//! Bad days: an API server in every kind of trouble, keys that rotate under load, hostile tokens, clocks that jump.

mod fault_matrix;
mod patience;
mod rotation;
mod trouble;
