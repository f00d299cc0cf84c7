//! Rebuilds the binary when the page was built anew: only a release build holds the page's files.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        println!("cargo:rerun-if-changed=../../www/dist");
    }
}
