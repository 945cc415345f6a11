//! What a screen in text mode says: each cell is compared with the font of a video BIOS.

use anyhow::{Context, Result, ensure};

/// Lines of a glyph, and bytes: one a line, the leftmost pixel in the highest bit.
const HEIGHT: usize = 16;
/// Bytes of a pixel.
const PIXEL: usize = 4;
/// Width of a screen whose cells have a ninth column of pixels; those of others have eight.
const WIDE: usize = 720;
/// Glyph 1, a face, by which the font is found in a ROM; glyph 0 before it is empty.
const FACE: [u8; HEIGHT] = [0, 0, 0x7e, 0x81, 0xa5, 0x81, 0x81, 0xbd, 0x99, 0x81, 0x81, 0x7e, 0, 0, 0, 0];
/// Characters that are told apart; all others are shown as a question mark.
const KNOWN: std::ops::RangeInclusive<u8> = b' '..=b'~';

/// Glyphs of the characters that are known.
pub struct Font(Vec<[u8; HEIGHT]>);

impl Font {
    /// The font of 8 by 16 pixels in a video BIOS.
    ///
    /// # Errors
    /// Where it has none.
    pub fn find(rom: &[u8]) -> Result<Font> {
        let face = rom.windows(HEIGHT).position(|window| window == FACE).context("no font in this file")?;
        let glyph = |character: u8| rom.get(face + HEIGHT * (usize::from(character) - 1)..)?.first_chunk().copied();
        Ok(Font(KNOWN.map(glyph).collect::<Option<_>>().context("the font is cut off")?))
    }

    /// The character in a cell, whatever its two colours are.
    fn character(&self, cell: &[u8; HEIGHT]) -> char {
        let is_it = |glyph: &[u8; HEIGHT]| glyph == cell || glyph.iter().zip(cell).all(|(a, b)| *a == !b);
        let known = KNOWN.zip(&self.0).find(|(_, glyph)| is_it(glyph));
        known.map_or('?', |(character, _)| char::from(character))
    }
}

/// The lines of a picture of 4 bytes a pixel, without blanks at their ends.
///
/// # Errors
/// Where it is no screen in text mode.
pub fn lines(picture: &[u8], width: usize, font: &Font) -> Result<Vec<String>> {
    let cell_width = if width == WIDE { 9 } else { 8 };
    ensure!(width != 0 && width % cell_width == 0, "a screen {width} wide has no text");
    let row = width * PIXEL * HEIGHT;
    Ok(picture
        .chunks_exact(row)
        .map(|row| {
            let cells = (0..width).step_by(cell_width).map(|x| cell(row, width, x));
            let line: String = cells.map(|cell| font.character(&cell)).collect();
            line.trim_end().to_string()
        })
        .collect())
}

/// The glyph at a place in a row of cells: pixels that are not of the colour of the first. Where there is a ninth column, it is
/// that of the space between characters.
fn cell(row: &[u8], width: usize, x: usize) -> [u8; HEIGHT] {
    let pixel = |x: usize, y: usize| &row[(y * width + x) * PIXEL..][..PIXEL - 1];
    let background = pixel(x, 0);
    std::array::from_fn(|y| (0..8).fold(0, |bits, i| bits << 1 | u8::from(pixel(x + i, y) != background)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ROM whose glyph of character c has c in two lines, the face aside.
    fn rom() -> Vec<u8> {
        let mut rom = vec![0xaa; 100];
        rom.extend([0; HEIGHT]);
        rom.extend(FACE);
        for character in 2..=127 {
            let mut glyph = [0; HEIGHT];
            if character != b' ' {
                (glyph[3], glyph[7]) = (character, 0x10);
            }
            rom.extend(glyph);
        }
        rom
    }

    /// A screen of two rows of 9 by 16 pixels, with these characters at the start of the second.
    fn screen(text: &str, ink: u8, paper: u8) -> Vec<u8> {
        let mut picture = vec![paper; WIDE * PIXEL * HEIGHT * 2];
        for (column, character) in text.bytes().enumerate() {
            for (y, bits) in [(3, character), (7, 0x10)] {
                for x in (0..8).filter(|x| bits >> (7 - x) & 1 != 0) {
                    let at = ((HEIGHT + y) * WIDE + column * 9 + x) * PIXEL;
                    picture[at..at + PIXEL].fill(ink);
                }
            }
        }
        picture
    }

    #[test]
    fn text_is_read_in_any_colours() {
        let font = Font::find(&rom()).unwrap();
        for (ink, paper) in [(0xaa, 0), (0, 0x55)] {
            assert_eq!(lines(&screen("GRUB~", ink, paper), WIDE, &font).unwrap(), ["", "GRUB~"]);
        }
        let mut picture = screen("AB", 9, 0);
        // A pixel in the first line of A, which has none.
        picture[WIDE * HEIGHT * PIXEL + 2 * PIXEL] = 9;
        assert_eq!(lines(&picture, WIDE, &font).unwrap(), ["", "?B"]);
    }

    #[test]
    fn what_is_no_font_or_text_is_refused() {
        assert!(Font::find(&rom()[..1000]).is_err());
        assert!(Font::find(&[0; 100]).is_err());
        assert!(lines(&[], 1023, &Font::find(&rom()).unwrap()).is_err());
    }
}
