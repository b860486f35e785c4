//! What the tests and the benchmark share.

pub mod namespaces;
pub mod oracle;
pub mod schemas;
pub mod test_run;

use std::env;
use std::path::PathBuf;

/// The program `mirroring` that belongs to the test that runs: cargo builds it into the folder that has the
/// tests' folder, `deps`.
pub fn binary() -> PathBuf {
    let test = env::current_exe().expect("the path of this test");
    let folder = test.ancestors().nth(2).expect("a folder for deps");
    folder.join("mirroring")
}
