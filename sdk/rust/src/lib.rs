//! Client for the Countersign HTTP API.
