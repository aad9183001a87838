//! A connection between a store and its server that breaks when it is told to.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

/// Where the connection breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Before a command reaches the server.
    Before,
    /// After the server did it, before its answer arrives.
    After,
}

#[derive(Default)]
struct Plan {
    /// What breaks, after so many pieces in that direction.
    cut: Option<(Cut, usize)>,
    /// A script was sent since then.
    asked: bool,
    happened: Option<Cut>,
}

/// Passes bytes on. Ends with the process.
pub(crate) struct Proxy {
    pub(crate) url: String,
    plan: Arc<Mutex<Plan>>,
}

impl Proxy {
    /// In front of a server, whose address is `redis://HOST:PORT`.
    pub(crate) fn before(url: &str) -> Self {
        let server = url.strip_prefix("redis://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let plan = Arc::new(Mutex::new(Plan::default()));
        let own = plan.clone();
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                // The server may have ended with its test.
                let Ok(far) = TcpStream::connect(&server) else { return };
                for stream in [&near, &far] {
                    stream.set_nodelay(true).unwrap();
                }
                let (near_too, far_too) = (near.try_clone().unwrap(), far.try_clone().unwrap());
                let (up, down) = (own.clone(), own.clone());
                std::thread::spawn(move || pass(near, far, Cut::Before, &up));
                std::thread::spawn(move || pass(far_too, near_too, Cut::After, &down));
            }
        });
        Self { url, plan }
    }

    /// The connection breaks once, after so many more pieces in that direction.
    pub(crate) fn arm(&self, cut: Cut, after: usize) {
        *self.plan.lock().unwrap() = Plan { cut: Some((cut, after)), ..Plan::default() };
    }

    /// Nothing breaks any more. Answers what did.
    pub(crate) fn disarm(&self) -> Option<Cut> {
        std::mem::take(&mut *self.plan.lock().unwrap()).happened
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, direction: Cut, plan: &Mutex<Plan>) {
    let mut piece = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut piece) {
        {
            let mut plan = plan.lock().unwrap();
            plan.asked |= direction == Cut::Before && piece[..length].windows(4).any(|word| word == b"EVAL");
            // A script may be sent after a look at limits, or behind what a new connection says first, which is answered by
            // a word or an error.
            let answers = plan.asked && !matches!(piece[0], b'+' | b'-');
            match &mut plan.cut {
                Some((cut, _)) if *cut != direction || (direction == Cut::After && !answers) => {}
                Some((_, 0)) => {
                    *plan = Plan { happened: Some(direction), ..Plan::default() };
                    break;
                }
                Some((_, after)) => *after -= 1,
                None => {}
            }
        }
        if to.write_all(&piece[..length]).is_err() {
            break;
        }
    }
    // Either may be closed already.
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
