//! Cuts one direction's bytes into messages of which no more than a bound is kept, and reads what is in one.

/// What a message's head says of the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    /// How many bytes follow.
    pub(super) length: usize,
    /// How many of them are worth keeping.
    pub(super) keep: usize,
}

/// Bytes that are no message of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// One direction of a stream.
#[derive(Debug, Clone, Default)]
pub(super) struct Cutter {
    head: Vec<u8>,
    body: Vec<u8>,
    plan: Option<Plan>,
    /// Bytes of the body that came.
    came: usize,
}

impl Cutter {
    /// Takes from `input` what belongs to one message; `true` when it is whole. Then it is read with [`Self::head`] and
    /// [`Self::take_body`], and [`Self::next`] called.
    ///
    /// # Errors
    /// What `plan` says of a head of `head` bytes.
    pub(super) fn cut(
        &mut self,
        input: &mut &[u8],
        head: usize,
        plan: impl FnOnce(&[u8]) -> Result<Plan, Malformed>,
    ) -> Result<bool, Malformed> {
        let planned = match self.plan {
            Some(planned) => planned,
            None => {
                let missing = head.saturating_sub(self.head.len());
                self.head.extend_from_slice(take(input, missing));
                if self.head.len() < head {
                    return Ok(false);
                }
                *self.plan.insert(plan(&self.head)?)
            }
        };
        let piece = take(input, planned.length.saturating_sub(self.came));
        self.came = self.came.saturating_add(piece.len());
        let room = planned.keep.saturating_sub(self.body.len());
        self.body.extend_from_slice(piece.get(..room).unwrap_or(piece));
        Ok(self.came >= planned.length)
    }

    /// The head of the message.
    pub(super) fn head(&self) -> &[u8] {
        &self.head
    }

    /// Bytes of the whole body, kept or not, without those of messages that it continues.
    pub(super) const fn length(&self) -> usize {
        self.came
    }

    /// What was kept of the body. Give it back to [`Self::next`], so that the next one needs no new memory.
    pub(super) fn take_body(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.body)
    }

    /// The next message begins.
    pub(super) fn next(&mut self, mut body: Vec<u8>) {
        body.clear();
        // One long message does not hold its memory for ever.
        body.shrink_to(4096);
        self.body = body;
        self.go_on();
    }

    /// The next message continues the body of this one.
    pub(super) fn go_on(&mut self) {
        self.head.clear();
        self.plan = None;
        self.came = 0;
    }
}

fn take<'a>(input: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (piece, rest) = input.split_at_checked(count).unwrap_or((input, &[]));
    *input = rest;
    piece
}

/// What is in a message, from its beginning; `None` when it ends before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (piece, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(piece)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    /// Up to a NUL, without it.
    pub(super) fn text(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|byte| *byte == 0)?;
        let text = self.take(end);
        self.byte()?;
        text
    }

    /// The same, or all that is left when it was cut before the NUL.
    pub(super) fn text_or_rest(&mut self) -> &'a [u8] {
        let rest = self.0;
        self.text().unwrap_or_else(|| {
            self.0 = &[];
            rest
        })
    }
}
