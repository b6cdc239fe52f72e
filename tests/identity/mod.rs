//! Agents and people prove who they are.

mod agents;
mod certified;
mod clocks;
mod dev_idp;
mod directory;
mod docs;
mod keys_of_issuers;
mod people;
mod rogue;
mod scene;
mod sessions;
mod token_shapes;
mod tokens;
mod world;
