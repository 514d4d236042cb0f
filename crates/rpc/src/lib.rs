//! gRPC services and clients; conversion between wire and domain types.
