//! The configuration.
pub mod diagnostic;
pub mod schema;
mod shape;
pub mod source;
pub mod value;
#[cfg(test)]
mod tests {
  #[test] fn dump() { println!("{}", serde_json::to_string_pretty(&schemars::schema_for!(super::schema::Config)).unwrap()); }
}
