//! A screen fetched over VNC, and keys typed on it (RFC 6143, protocol 3.8, no authentication).

use anyhow::{Context, Result, bail, ensure};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Security type without authentication (RFC 6143, 7.1.2).
const NO_SECURITY: u8 = 1;
/// X keysyms of the return key, and of the left control and alt keys.
const RETURN: u32 = 0xff0d;
const CONTROL: u32 = 0xffe3;
const ALT: u32 = 0xffe9;
/// From one key to the next. QEMU drops keys for which the guest's ring has no room, which holds 51 of them (io/kbdif.h).
const BETWEEN_KEYS: Duration = Duration::from_millis(50);

struct Screen {
    stream: TcpStream,
    width: u16,
    height: u16,
}

impl Screen {
    /// Connects, and asks for pixels as a PV framebuffer has them: 32 bits, blue first.
    fn connect(address: &str) -> Result<Screen> {
        let stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut screen = Screen { stream, width: 0, height: 0 };
        let version = screen.read::<12>()?;
        ensure!(version.starts_with(b"RFB 003."), "no VNC server at {address}");
        screen.stream.write_all(b"RFB 003.008\n")?;
        let [count] = screen.read()?;
        let mut offered = vec![0; count.into()];
        screen.stream.read_exact(&mut offered)?;
        ensure!(offered.contains(&NO_SECURITY), "the server wants a password: security types {offered:?}");
        screen.stream.write_all(&[NO_SECURITY])?;
        ensure!(u32::from_be_bytes(screen.read()?) == 0, "the server refuses the connection");
        // Shared with other viewers.
        screen.stream.write_all(&[1])?;
        screen.width = u16::from_be_bytes(screen.read()?);
        screen.height = u16::from_be_bytes(screen.read()?);
        let _format = screen.read::<16>()?;
        let name = u32::from_be_bytes(screen.read()?);
        std::io::copy(&mut (&screen.stream).take(name.into()), &mut std::io::sink())?;
        // SetPixelFormat: 32 bits a pixel, depth 24, little endian, true colour, 255 of each at bits 16, 8 and 0.
        screen.stream.write_all(&[0, 0, 0, 0, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0])?;
        // SetEncodings: raw alone.
        screen.stream.write_all(&[2, 0, 0, 1, 0, 0, 0, 0])?;
        Ok(screen)
    }

    fn read<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes).context("the server says nothing")?;
        Ok(bytes)
    }

    /// Presses these keys, one after the other, and lets them go in the reverse order.
    fn keys(&mut self, symbols: &[u32]) -> Result<()> {
        let down = symbols.iter().map(|symbol| (1, symbol));
        let up = symbols.iter().rev().map(|symbol| (0, symbol));
        for (down, symbol) in down.chain(up) {
            let mut event = [4, down, 0, 0, 0, 0, 0, 0];
            event[4..].copy_from_slice(&symbol.to_be_bytes());
            self.stream.write_all(&event)?;
        }
        std::thread::sleep(BETWEEN_KEYS);
        Ok(())
    }

    /// The whole screen, 4 bytes a pixel.
    fn picture(&mut self) -> Result<Vec<u8>> {
        let mut request = vec![3, 0, 0, 0, 0, 0];
        request.extend(self.width.to_be_bytes());
        request.extend(self.height.to_be_bytes());
        self.stream.write_all(&request)?;
        let mut picture = vec![0; usize::from(self.width) * usize::from(self.height) * 4];
        loop {
            match self.read::<1>()? {
                [0] => break self.rectangles(&mut picture)?,
                [2] => {}
                [3] => {
                    let _padding = self.read::<3>()?;
                    let length = u32::from_be_bytes(self.read()?);
                    std::io::copy(&mut (&self.stream).take(length.into()), &mut std::io::sink())?;
                }
                [other] => bail!("message {other} of the server"),
            }
        }
        Ok(picture)
    }

    /// Puts the rectangles of one update into the picture.
    fn rectangles(&mut self, picture: &mut [u8]) -> Result<()> {
        let _padding = self.read::<1>()?;
        let count = u16::from_be_bytes(self.read()?);
        for _ in 0..count {
            let mut place = [0; 4];
            for number in &mut place {
                *number = usize::from(u16::from_be_bytes(self.read()?));
            }
            let [x, y, width, height] = place;
            ensure!(u32::from_be_bytes(self.read()?) == 0, "a rectangle is not raw");
            let inside = x + width <= self.width.into() && y + height <= self.height.into();
            ensure!(inside, "a rectangle of {width} by {height} at {x}, {y} is not on the screen");
            for line in y..y + height {
                let start = (line * usize::from(self.width) + x) * 4;
                self.stream.read_exact(&mut picture[start..][..width * 4])?;
            }
        }
        Ok(())
    }
}

/// Has QEMU show another of its consoles, 1 to 9.
///
/// # Errors
/// Where the server does not answer as the protocol wants.
pub fn switch(address: &str, console: u8) -> Result<()> {
    let mut screen = Screen::connect(address)?;
    screen.keys(&[CONTROL, ALT, u32::from(b'0' + console)])?;
    // An answer says that the server has taken in what came before.
    screen.picture()?;
    Ok(())
}

/// What a screen shows.
pub struct Seen {
    /// Pixels in a line.
    pub width: usize,
    /// 4 bytes each: blue, green, red, nothing.
    pub pixels: Vec<u8>,
}

/// Types `text` and a return where there is one, then fetches the screen of the server at `address`.
///
/// # Errors
/// Where the server does not answer as the protocol wants.
pub fn visit(address: &str, text: Option<&str>) -> Result<Seen> {
    let mut screen = Screen::connect(address)?;
    if let Some(text) = text {
        // Keysyms of ASCII characters are their codes.
        text.bytes().map(u32::from).chain([RETURN]).try_for_each(|symbol| screen.keys(&[symbol]))?;
        println!("typed {text}");
    }
    // Also after typing, as in `switch`.
    let picture = screen.picture()?;
    let lit = picture.chunks_exact(4).filter(|pixel| pixel[..3] != [0, 0, 0]).count();
    println!("screen of {} by {}, {lit} pixels lit", screen.width, screen.height);
    Ok(Seen { width: screen.width.into(), pixels: picture })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    #[test]
    fn a_picture_of_two_rectangles() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("port");
        let address = listener.local_addr().expect("address").to_string();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("client");
            stream.write_all(b"RFB 003.008\n").expect("version");
            stream.read_exact(&mut [0; 12]).expect("version");
            stream.write_all(&[1, 1]).expect("security");
            stream.read_exact(&mut [0; 1]).expect("security");
            stream.write_all(&[0; 4]).expect("result");
            stream.read_exact(&mut [0; 1]).expect("shared");
            stream.write_all(&[&[0, 2, 0, 2], &[0; 16][..], &[0, 0, 0, 1, b'x']].concat()).expect("format");
            let mut requests = [0; 20 + 8 + 16 + 10];
            stream.read_exact(&mut requests).expect("requests");
            // A bell, then one line a rectangle.
            stream.write_all(&[2, 0, 0, 0, 2]).expect("update");
            for (y, colour) in [(0, 7), (1, 9)] {
                let line = [&[0, 0, 0, y, 0, 2, 0, 1, 0, 0, 0, 0][..], &[colour; 8]].concat();
                stream.write_all(&line).expect("rectangle");
            }
            requests
        });
        let mut screen = Screen::connect(&address).expect("connected");
        screen.keys(&[RETURN]).expect("typed");
        assert_eq!(screen.picture().expect("picture"), [[7; 8], [9; 8]].concat());
        let requests = server.join().expect("server");
        assert_eq!(requests[28..44], [4, 1, 0, 0, 0, 0, 0xff, 0x0d, 4, 0, 0, 0, 0, 0, 0xff, 0x0d]);
    }
}
