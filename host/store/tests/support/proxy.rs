//! A connection between a store and its server that breaks when it is told to.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
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
                let asked = Arc::new(AtomicBool::new(false));
                let asked_too = asked.clone();
                std::thread::spawn(move || pass(near, far, Cut::Before, &up, &asked));
                std::thread::spawn(move || pass(far_too, near_too, Cut::After, &down, &asked_too));
            }
        });
        Self { url, plan }
    }

    /// The connection breaks once, after so many more pieces in that direction.
    pub(crate) fn arm(&self, cut: Cut, after: usize) {
        *self.plan.lock().unwrap() = Plan { cut: Some((cut, after)), happened: None };
    }

    /// Nothing breaks any more. Answers what did.
    pub(crate) fn disarm(&self) -> Option<Cut> {
        std::mem::take(&mut *self.plan.lock().unwrap()).happened
    }
}

/// Asked: a script was sent by this connection. What is answered before that is said of the connection itself.
fn pass(mut from: TcpStream, mut to: TcpStream, direction: Cut, plan: &Mutex<Plan>, asked: &AtomicBool) {
    let mut piece = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut piece) {
        if direction == Cut::Before && piece[..length].windows(4).any(|word| word == b"EVAL") {
            asked.store(true, Relaxed);
        }
        // Greetings are answered by a word or an error, scripts by neither.
        let greets = direction == Cut::After && matches!(piece[0], b'+' | b'-');
        if asked.load(Relaxed) && !greets {
            let mut plan = plan.lock().unwrap();
            match &mut plan.cut {
                Some((cut, 0)) if *cut == direction => {
                    *plan = Plan { cut: None, happened: Some(direction) };
                    break;
                }
                Some((cut, after)) if *cut == direction => *after -= 1,
                _ => {}
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
