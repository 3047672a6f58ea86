//! The model, what is drawn, and the stores that are compared with it.

pub(crate) mod acts;
pub(crate) mod coverage;
pub(crate) mod draw;
pub(crate) mod model;
pub(crate) mod rows;
pub(crate) mod runs;
pub(crate) mod said;
pub(crate) mod smaller;
pub(crate) mod step;
pub(crate) mod store;
pub(crate) mod sums;
pub(crate) mod time;
pub(crate) mod trees;
pub(crate) mod wait;
pub(crate) mod world;
