"""The wire contract: requests, replies, frames and errors. No I/O."""
