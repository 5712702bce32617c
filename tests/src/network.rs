//! A network between clients and servers that a test can cut and mend.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

/// Stands between clients and servers, and passes on what they say.
///
/// Cut, it behaves as a broken route does: nobody is told, connections stay open, nothing arrives. What was on its way
/// arrives after the mending, as a retransmission would.
#[derive(Debug, Clone, Default)]
pub struct Network {
    cut: Arc<(Mutex<bool>, Condvar)>,
}

impl Network {
    /// A network that leads whoever connects to the first address of a pair to the second.
    ///
    /// # Panics
    /// If an address is taken.
    #[must_use]
    pub fn between(routes: &[(String, String)]) -> Self {
        let network = Self::default();
        for (from, to) in routes {
            let listener = TcpListener::bind(from).unwrap_or_else(|error| panic!("{from}: {error}"));
            let (network, to) = (network.clone(), to.clone());
            thread::spawn(move || {
                for client in listener.incoming().flatten() {
                    network.lead(client, &to);
                }
            });
        }
        network
    }

    /// From now on nothing arrives.
    pub fn cut(&self) {
        *self.cut.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// Everything arrives again.
    pub fn mend(&self) {
        *self.cut.0.lock().unwrap_or_else(PoisonError::into_inner) = false;
        self.cut.1.notify_all();
    }

    fn pass(&self) {
        let cut = self.cut.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.cut.1.wait_while(cut, |cut| *cut).unwrap_or_else(PoisonError::into_inner));
    }

    fn lead(&self, client: TcpStream, to: &str) {
        // Without a server the client's connection is closed, as a closed port would.
        let Ok(server) = TcpStream::connect(to) else { return };
        let (Ok(client_side), Ok(server_side)) = (client.try_clone(), server.try_clone()) else { return };
        let (there, back) = (self.clone(), self.clone());
        thread::spawn(move || there.pump(client, server));
        thread::spawn(move || back.pump(server_side, client_side));
    }

    /// Carries what `from` says to `to`, until either is gone.
    fn pump(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            self.pass();
            if to.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        self.pass();
        // Already closed is as well.
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn nothing_arrives_while_it_is_cut_and_everything_afterwards() {
        let server = TcpListener::bind("127.0.0.1:0").expect("a port");
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let from = free.local_addr().expect("an address").to_string();
        drop(free);
        let network = Network::between(&[(from.clone(), server.local_addr().expect("an address").to_string())]);
        let mut client = TcpStream::connect(&from).expect("connected");
        let (mut end, _) = server.accept().expect("accepted");
        let mut heard = [0; 3];
        client.write_all(b"one").expect("sent");
        end.read_exact(&mut heard).expect("arrived");
        assert_eq!(&heard, b"one");

        network.cut();
        client.write_all(b"two").expect("sent");
        end.set_read_timeout(Some(Duration::from_millis(100))).expect("set");
        assert!(end.read_exact(&mut heard).is_err(), "{heard:?} came through");
        network.mend();
        end.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        end.read_exact(&mut heard).expect("arrived");
        assert_eq!(&heard, b"two");
    }
}
