//! From wire messages to values that cannot be wrong, and back.
