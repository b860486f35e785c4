use traffic_mirroring as _;

fn main() {}
