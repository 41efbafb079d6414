//! The far side of a test's network; [`sbx_tests::lan`] starts it.

fn main() -> std::io::Result<()> {
    sbx_tests::lan::serve()
}
