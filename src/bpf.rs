//! The compiled tc programs, and the types they share with user space (`bpf/mirroring.h`).

#[allow(clippy::all, clippy::pedantic, missing_docs)]
mod ingress {
    include!(concat!(env!("OUT_DIR"), "/mirroring_ingress.skel.rs"));
}
#[allow(clippy::all, clippy::pedantic, missing_docs)]
mod egress {
    include!(concat!(env!("OUT_DIR"), "/mirroring_egress.skel.rs"));
}
#[allow(clippy::all, clippy::pedantic, missing_docs)]
mod gue {
    include!(concat!(env!("OUT_DIR"), "/gue_tunnel.skel.rs"));
}
