//! A stream of noise by TCP, whose checksum both ends compute over what they had in hand.

use crate::noise::Noise;
use anyhow::{Context, Result, ensure};
use crc32fast::Hasher;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

/// Bytes in one write or read.
const PIECE: usize = 64 << 10;

/// Sends `mib` MiB to `to`.
///
/// # Errors
/// Where the connection fails, or the receiver's checksum is another.
pub fn send(to: &str, mib: u64, seed: u64) -> Result<()> {
    let mut stream = TcpStream::connect(to).with_context(|| format!("cannot connect to {to}"))?;
    let (mut noise, mut sum, mut piece) = (Noise::new([seed, mib, 0]), Hasher::new(), vec![0; PIECE]);
    for _ in 0..(mib << 20) / PIECE as u64 {
        noise.fill(&mut piece);
        sum.update(&piece);
        stream.write_all(&piece).context("send")?;
    }
    stream.shutdown(Shutdown::Write).context("end of the stream")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("answer of the receiver")?;
    let sent = summary(mib << 20, sum);
    ensure!(answer == sent, "sent {sent}, but the receiver got {answer}");
    println!("sent {sent}");
    Ok(())
}

/// Receives one stream on `port` and tells the sender what came.
///
/// # Errors
/// Where the connection fails.
pub fn receive(port: u16) -> Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", port)).with_context(|| format!("cannot listen on port {port}"))?;
    println!("listening on {}", listener.local_addr()?.port());
    let (mut stream, from) = listener.accept().context("accept")?;
    let (mut sum, mut piece, mut bytes) = (Hasher::new(), vec![0; PIECE], 0);
    loop {
        let count = stream.read(&mut piece).context("receive")?;
        if count == 0 {
            break;
        }
        sum.update(&piece[..count]);
        bytes += count as u64;
    }
    let got = summary(bytes, sum);
    stream.write_all(got.as_bytes()).context("answer")?;
    println!("received {got} from {}", from.ip());
    Ok(())
}

fn summary(bytes: u64, sum: Hasher) -> String {
    format!("{bytes} bytes, checksum {:08x}", sum.finalize())
}
