//! The role that keeps one shell: terminal, screen and output that nobody has taken yet.
//!
//! A holder is its own session, in no process group of the agent's, so that the shell outlives an
//! agent that was killed, crashed or upgraded; the next agent finds the socket and goes on. It reads
//! no key, opens no network and decides nothing: it does what the process at the other end of its
//! socket says, and lets only the user in that started it.
//!
//! Where an agent is a systemd service, the unit needs `KillMode=process`, or stopping it takes the
//! holders along, and no `NoNewPrivileges=`, which is inherited and would break `sudo` in shells.
//! A service that must be sandboxed starts its holders from a unit of their own.

mod door;
mod keeper;
mod kept;
pub(crate) mod message;
mod ring;
mod screen;
mod terminal;

use crate::frame;
use crate::helper::Helper;
use door::Door;
use keeper::Keeper;
use kept::Kept;
use message::{Orders, Outcome, StartError, VERSION};
use rustix::process::{setsid, umask};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream as BlockingStream;
use std::time::Duration;
use terminal::Terminal;
use tokio::sync::mpsc;

pub(crate) fn run(helper: &Helper) -> i32 {
    let Ok(own) = io::stdin().as_fd().try_clone_to_owned() else {
        return 2;
    };
    let mut control = BlockingStream::from(own);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(keep(helper, &mut control)),
        Err(error) => Err(StartError::system("its runtime", &error)),
    };
    match outcome {
        Ok(()) => 0,
        Err(error) => {
            drop(frame::write_blocking(&mut control, &Outcome::Failed(error)));
            1
        }
    }
}

async fn keep(helper: &Helper, control: &mut BlockingStream) -> Result<(), StartError> {
    let orders: Orders = frame::read_blocking(control)?;
    if orders.version != VERSION {
        return Err(StartError::Version);
    }
    setsid().map_err(|errno| StartError::system("its session", &errno.into()))?;
    umask(rustix::fs::Mode::from_raw_mode(0o177));
    let (_door, listener) = Door::open(&orders.socket).map_err(|error| StartError::system("its socket", &error))?;
    let terminal = Terminal::open(helper, &orders).await?;
    let kept = Kept::new(orders.id, orders.user.name.clone(), terminal.control.pid(), orders.size.checked());
    let (to_keeper, admitted) = mpsc::channel(1);
    let keeper = Keeper::new(terminal, kept, admitted, Duration::from_secs(orders.idle_seconds));
    frame::write_blocking(control, &Outcome::Started)?;
    control.shutdown(std::net::Shutdown::Both).map_err(|error| StartError::system("its silence", &error))?;
    tokio::select! {
        () = keeper.run() => {}
        () = door::answer(listener, to_keeper) => {}
    }
    Ok(())
}
