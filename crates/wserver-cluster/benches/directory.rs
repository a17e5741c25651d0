//! What a directory of many users costs: `cargo bench -p wserver-cluster`. Under a test it is a small
//! one.
#![expect(clippy::print_stdout, reason = "figures are its result")]

fn main() {
    let is_measuring = std::env::args().any(|argument| argument == "--bench");
    let users = if is_measuring { 9_900_000 } else { 1000 };
    println!("{users} users of 99 nodes");
    for (what, figure) in wserver_cluster::measure_directory(users) {
        println!("{what:<50} {figure}");
    }
}
