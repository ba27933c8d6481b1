//! Integration tests: a real server, real sockets, one module per capability.
