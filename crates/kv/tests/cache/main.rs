//! The cache against a memory that stores real token values: rules with the numbers of llama-server, a model-based
//! property test, and llama-server's own bookkeeping as the floor.

mod chunks;
mod floor;
mod held;
mod model;
mod operations;
mod placement;
mod pool;
mod restore;
mod rig;
mod shift;
