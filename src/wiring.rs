//! Configuration to adapters to a running broker: the only place that names adapters.
