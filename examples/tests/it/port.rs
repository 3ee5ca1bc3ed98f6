//! Ports for outside programs that must be told one: not those that the system gives to whoever asks for any, of which
//! another test may get the same before the program listens.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Below what Linux gives out by itself (32768 on), above where services are.
const FIRST: u32 = 12_000;
const COUNT: u32 = 20_000;

/// Another one at each call; two runs of the tests begin at different places.
static NEXT: LazyLock<AtomicU32> = LazyLock::new(|| AtomicU32::new(std::process::id().wrapping_mul(257)));

/// An address of loopback where nobody listens, and that nothing else takes by chance.
pub(crate) fn free() -> SocketAddr {
    loop {
        let number = FIRST + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, u16::try_from(number).unwrap()));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// The port of [`free`].
pub(crate) fn free_port() -> u16 {
    free().port()
}
