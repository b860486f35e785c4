//! Production traffic in the background, while a test does other things.

use std::net::UdpSocket;
use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::traffic::bind;
use super::{LIMIT, Ns, Packet, eventually};

/// Sends numbered datagrams to a server, which sends each back. Every datagram has to come back unchanged before the
/// next one is sent. A single lost datagram fails the test.
pub struct Stream {
    stop: Arc<AtomicBool>,
    /// How many datagrams have come back.
    count: Arc<AtomicU64>,
    thread: JoinHandle<u64>,
}

impl Stream {
    pub fn start(client: &Ns, server: &Ns, port: u16) -> Stream {
        let far = bind(server, || UdpSocket::bind((server.address(), port)));
        let near = bind(client, || UdpSocket::bind((client.address(), 0)));
        near.connect((server.address(), port)).expect("connect");
        for socket in [&near, &far] {
            socket.set_read_timeout(Some(LIMIT)).expect("a read timeout");
        }
        let stop = Arc::new(AtomicBool::new(false));
        let count = Arc::new(AtomicU64::new(0));
        let (stopped, counted) = (stop.clone(), count.clone());
        let exchange = move || {
            let mut number = 0;
            while !stopped.load(Ordering::Relaxed) {
                let data = datagram(number);
                let lost = |error| panic!("datagram {number} to port {port}: {error}");
                near.send(&data).unwrap_or_else(lost);
                let mut buffer = [0; 2048];
                let (length, from) = far
                    .recv_from(&mut buffer)
                    .unwrap_or_else(|error| panic!("datagram {number} to port {port}: {error}"));
                far.send_to(&buffer[..length], from).unwrap_or_else(lost);
                let length = near.recv(&mut buffer).unwrap_or_else(lost);
                assert!(buffer[..length] == data, "datagram {number} came back changed");
                number += 1;
                counted.store(number, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(1));
            }
            number
        };
        Stream { stop, count, thread: thread::spawn(exchange) }
    }

    /// Waits until this many more datagrams have come back.
    pub fn goes_on(&self, more: u64) {
        let wanted = self.count.load(Ordering::Relaxed) + more;
        eventually("more traffic", || {
            let has_ended = self.thread.is_finished();
            has_ended || self.count.load(Ordering::Relaxed) >= wanted
        });
    }

    /// Stops the traffic, and returns how many datagrams have come back.
    pub fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
    }

    /// The numbers of the datagrams among `packets` that went to the port or, without `to`, came from it, in order.
    pub fn numbers(packets: &[Packet], port: u16, to: bool) -> Vec<u64> {
        let of_stream = packets.iter().filter(|packet| {
            let port_of = |(src, dst)| if to { dst } else { src };
            packet.protocol == 17 && packet.ports.map(port_of) == Some(port)
        });
        of_stream
            .map(|packet| {
                let number = packet.payload.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
                let number = number.expect("a number");
                assert!(packet.payload == datagram(number), "datagram {number} was copied changed");
                number
            })
            .collect()
    }
}

/// The datagram with this number. The number also determines its other bytes, and how many they are.
fn datagram(number: u64) -> Vec<u8> {
    let mut data = number.to_be_bytes().to_vec();
    let length = 20 + (number * 37 % 400) as usize;
    data.extend((0..length).map(|i| (number as usize * 7 + i * 13) as u8));
    data
}
