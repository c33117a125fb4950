//! Reads JSON as RFC 8259 has it, and tells what stands where. Knows no depth
//! that is too deep.

/// The members of the one object that `text` is, in order: each key as it is
/// written, without its quotes, and its value as it is written.
pub fn object(text: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let mut reader = Reader { text, at: 0 };
    let mut members = Vec::new();
    reader.space();
    reader.take(b'{')?;
    reader.space();
    if reader.take(b'}').is_none() {
        loop {
            let key = reader.at + 1;
            reader.string()?;
            let key = &text[key..reader.at - 1];
            reader.colon()?;
            let value = reader.at;
            reader.value()?;
            members.push((key, &text[value..reader.at]));
            reader.space();
            if reader.take(b',').is_none() {
                break;
            }
            reader.space();
        }
        reader.take(b'}')?;
    }
    reader.space();
    (reader.at == text.len()).then_some(members)
}

/// Whether `text` is one value.
pub fn is_value(text: &[u8]) -> bool {
    let mut reader = Reader { text, at: 0 };
    let good = reader.value().is_some();
    reader.space();
    good && reader.at == text.len()
}

/// The values that stand one after the other in `text`, with nothing but whitespace between
/// them.
pub fn values(text: &[u8]) -> Option<Vec<&[u8]>> {
    let mut reader = Reader { text, at: 0 };
    let mut values = Vec::new();
    reader.space();
    while reader.at < text.len() {
        let start = reader.at;
        reader.value()?;
        values.push(&text[start..reader.at]);
        reader.space();
    }
    Some(values)
}

/// What JSON calls whitespace, taken from both ends.
pub fn trim(text: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| b" \t\n\r".contains(byte);
    let start = text.iter().take_while(|byte| is_space(byte)).count();
    let text = &text[start..];
    let end = text.iter().rev().take_while(|byte| is_space(byte)).count();
    &text[..text.len() - end]
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn next(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then(|| self.at += 1)
    }

    fn skip(&mut self, wanted: impl Fn(u8) -> bool) -> usize {
        let count = self.text[self.at..]
            .iter()
            .take_while(|byte| wanted(**byte))
            .count();
        self.at += count;
        count
    }

    fn space(&mut self) {
        self.skip(|byte| b" \t\n\r".contains(&byte));
    }

    fn digits(&mut self) -> Option<()> {
        (self.skip(|byte| byte.is_ascii_digit()) > 0).then_some(())
    }

    fn colon(&mut self) -> Option<()> {
        self.space();
        self.take(b':')?;
        self.space();
        Some(())
    }

    fn value(&mut self) -> Option<()> {
        // What ends each array and object that has begun.
        let mut open = Vec::new();
        loop {
            self.space();
            match self.next()? {
                b'{' => {
                    self.at += 1;
                    self.space();
                    if self.take(b'}').is_none() {
                        open.push(b'}');
                        self.string()?;
                        self.colon()?;
                        continue;
                    }
                }
                b'[' => {
                    self.at += 1;
                    self.space();
                    if self.take(b']').is_none() {
                        open.push(b']');
                        continue;
                    }
                }
                b'"' => self.string()?,
                b't' => self.word(b"true")?,
                b'f' => self.word(b"false")?,
                b'n' => self.word(b"null")?,
                _ => self.number()?,
            }
            // A value has ended; so may those around it.
            loop {
                let Some(end) = open.last() else {
                    return Some(());
                };
                self.space();
                if self.take(*end).is_some() {
                    open.pop();
                    continue;
                }
                self.take(b',')?;
                if *end == b'}' {
                    self.space();
                    self.string()?;
                    self.colon()?;
                }
                break;
            }
        }
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        let here = self.text[self.at..].starts_with(word);
        here.then(|| self.at += word.len())
    }

    fn number(&mut self) -> Option<()> {
        let _ = self.take(b'-');
        if self.take(b'0').is_none() {
            self.digits()?;
        }
        if self.take(b'.').is_some() {
            self.digits()?;
        }
        if matches!(self.next(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.next(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(())
    }

    fn string(&mut self) -> Option<()> {
        self.take(b'"')?;
        loop {
            self.skip(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\');
            match self.next()? {
                b'"' => {
                    self.at += 1;
                    return Some(());
                }
                b'\\' => {
                    let escape = self.text.get(self.at + 1)?;
                    self.at += 2;
                    if *escape == b'u' {
                        let digits = self.text.get(self.at..self.at + 4)?;
                        if !digits.iter().all(u8::is_ascii_hexdigit) {
                            return None;
                        }
                        self.at += 4;
                    } else if !b"\"\\/bfnrt".contains(escape) {
                        return None;
                    }
                }
                _ => return None,
            }
        }
    }
}
