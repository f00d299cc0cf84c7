//! Tells the page's folder, and rebuilds the binary when the page was built anew: only a release build holds its files.

use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // By its real name, though it may not be there yet: a debug build compares it with the files it finds later.
    let root = Path::new("../..").canonicalize().expect("the workspace's folder");
    println!("cargo:rustc-env=REPRISE_PAGE={}", root.join("www/dist").display());
    if std::env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        println!("cargo:rerun-if-changed=../../www/dist");
    }
}
