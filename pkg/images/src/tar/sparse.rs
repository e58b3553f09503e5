//! Sparse members: the old GNU form (type `S`) and GNU's PAX forms 0.1 and 1.0.

use super::header::{Header, number};

/// Most data segments of one member.
const SEGMENTS_MAX: usize = 256 << 10;

/// Data segments `(offset, length)`, in order.
pub(super) type Map = Vec<(u64, u64)>;

/// What `GNU.sparse.*` records say about the next member.
#[derive(Debug, Default)]
pub(super) struct Claims {
    pub(super) size: Option<u64>,
    pub(super) map: Option<Map>,
    /// Version 1.0: the map is the beginning of the member's data.
    pub(super) map_in_data: bool,
}

impl Claims {
    pub(super) fn set(&mut self, name: &[u8], value: &str) -> Result<(), &'static str> {
        match name {
            b"size" | b"realsize" => {
                self.size = Some(value.parse().map_err(|_| "the size of a sparse file is not a number")?);
            }
            b"major" => self.map_in_data = value == "1",
            b"map" => {
                let numbers: Result<Vec<u64>, _> = value.split(',').map(str::parse).collect();
                let numbers = numbers.map_err(|_| "the map of a sparse file is not a list of numbers")?;
                self.map = Some(pairs(&numbers)?);
            }
            b"offset" | b"numbytes" => return Err("sparse format 0.0 is not supported"),
            _ => {}
        }
        Ok(())
    }
}

fn pairs(numbers: &[u64]) -> Result<Map, &'static str> {
    if !numbers.len().is_multiple_of(2) || numbers.len() / 2 > SEGMENTS_MAX {
        return Err("the map of a sparse file is malformed");
    }
    Ok(numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
}

/// The four entries of an old GNU header. Returns whether extension blocks follow.
pub(super) fn old_header(header: &Header<'_>, map: &mut Map) -> Result<bool, &'static str> {
    entries(&header.0[386..482], map)?;
    Ok(header.0[482] != 0)
}

/// The 21 entries of an extension block. Returns whether another follows.
pub(super) fn old_extension(block: &[u8; 512], map: &mut Map) -> Result<bool, &'static str> {
    entries(&block[..504], map)?;
    if map.len() > SEGMENTS_MAX {
        return Err("a sparse file with too many segments");
    }
    Ok(block[504] != 0)
}

fn entries(bytes: &[u8], map: &mut Map) -> Result<(), &'static str> {
    for entry in bytes.chunks_exact(24) {
        if entry[0] == 0 {
            return Ok(());
        }
        let part = |field| number(field).and_then(|value| u64::try_from(value).ok());
        map.push((
            part(&entry[..12]).ok_or("a sparse offset is malformed")?,
            part(&entry[12..]).ok_or("a sparse length is malformed")?,
        ));
    }
    Ok(())
}

/// The map at the beginning of the data (version 1.0): decimal lines, a count and then pairs, padded to a block.
#[derive(Debug, Default)]
pub(super) struct MapInData {
    line: String,
    expected: Option<usize>,
    numbers: Vec<u64>,
}

impl MapInData {
    /// Takes one block; returns the map when it is complete.
    pub(super) fn add(&mut self, block: &[u8]) -> Result<Option<Map>, &'static str> {
        for byte in block {
            match byte {
                b'0'..=b'9' if self.line.len() < 20 => self.line.push(char::from(*byte)),
                b'\n' => {
                    let value: u64 =
                        self.line.parse().map_err(|_| "the map of a sparse file is malformed")?;
                    self.line.clear();
                    match self.expected {
                        None if value > SEGMENTS_MAX as u64 => {
                            return Err("a sparse file with too many segments");
                        }
                        None => self.expected = Some(value as usize * 2),
                        Some(_) => self.numbers.push(value),
                    }
                    if self.expected == Some(self.numbers.len()) {
                        return pairs(&self.numbers).map(Some);
                    }
                }
                _ => return Err("the map of a sparse file is malformed"),
            }
        }
        Ok(None)
    }
}

/// Segments must be in order, within the file, and add up to the bytes that are there.
pub(super) fn check(map: &[(u64, u64)], size: u64, stored: u64) -> Result<(), &'static str> {
    let (mut end, mut sum) = (0u64, 0u64);
    for (offset, length) in map {
        if *offset < end {
            return Err("the segments of a sparse file overlap");
        }
        end = offset.checked_add(*length).ok_or("a sparse segment is out of range")?;
        sum = sum.checked_add(*length).ok_or("a sparse segment is out of range")?;
    }
    if end > size {
        return Err("a sparse segment ends after its file");
    }
    if sum != stored { Err("the segments of a sparse file are not the data that is there") } else { Ok(()) }
}
