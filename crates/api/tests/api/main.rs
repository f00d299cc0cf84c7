//! The router, asked as a client asks it, over a real engine that runs a scripted model.

mod access;
mod bad_input;
mod chat;
mod fuzz;
mod harness;
mod native;
mod openai;
mod server;
mod slots;
mod stream;
mod texts;
