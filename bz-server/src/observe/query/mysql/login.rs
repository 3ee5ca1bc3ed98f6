//! The greeting, the login and changes of user. What proves a login is skipped.

use bz_core::api::record::QueryOutcome;

use crate::observe::query::cut::{Fields, Malformed};
use crate::observe::query::mysql::answer::error;
use crate::observe::query::mysql::{MySqlLens, Phase, can};
use crate::observe::query::value::length_encoded_number;
use crate::observe::query::{Statement, name};

/// The version of the protocol that is spoken since MySQL 3.21.
const VERSION: u8 = 10;
/// A client that asks for TLS says no more than this much first.
const TLS_REQUEST: usize = 32;

impl MySqlLens {
    pub(super) fn greeting(&mut self, body: &[u8]) -> Result<(), Malformed> {
        let mut fields = Fields(body);
        match fields.byte() {
            Some(VERSION) => {}
            // The server has no room, or no wish.
            Some(0xff) => {
                let statement = Statement::named("LOGIN", "");
                let now = self.log.now;
                // Before a greeting there is no code.
                self.log.fail(&statement, now, error(body));
                self.phase = Phase::Over;
                return Ok(());
            }
            _ => return Err(Malformed),
        }
        self.can = capabilities(fields).ok_or(Malformed)?;
        self.phase = Phase::First;
        Ok(())
    }

    pub(super) fn client_says_who(&mut self, length: usize, body: &[u8]) -> Result<(), Malformed> {
        let mut fields = Fields(body);
        let low = u64::from(u32::from_le_bytes(fields.array().ok_or(Malformed)?));
        if low & can::PROTOCOL_41 == 0 {
            self.log.lose("a client of before MySQL 4.1, whose protocol is not read");
            return Ok(());
        }
        if low & self.can & can::TLS != 0 && length == TLS_REQUEST {
            self.log.lose("the connection is encrypted within the stream, which cannot be read");
            return Ok(());
        }
        // Longest packet, character set, reserved.
        fields.take(4 + 1 + 19).ok_or(Malformed)?;
        let high = u64::from(u32::from_le_bytes(fields.array().ok_or(Malformed)?));
        let extended = if low & can::LONG_PASSWORD == 0 { high << 32 } else { 0 };
        self.can &= low | extended;
        self.log.user = name(fields.text().ok_or(Malformed)?);
        let proof = if self.can & can::AUTH_LENGTH_ENCODED != 0 {
            length_encoded_number(&mut fields)
        } else if self.can & can::SECURE_CONNECTION != 0 {
            fields.byte().map(u64::from)
        } else {
            fields.text().map(|_| 0)
        };
        let proof = proof.and_then(|length| usize::try_from(length).ok()).ok_or(Malformed)?;
        fields.take(proof).ok_or(Malformed)?;
        if self.can & can::CONNECT_WITH_DB != 0 {
            // An empty one may be left out at the end.
            self.log.database = name(fields.text_or_rest());
        }
        (self.phase, self.began) = (Phase::Login, self.log.now);
        Ok(())
    }

    pub(super) fn login_answer(&mut self, body: &[u8]) -> Result<(), Malformed> {
        let statement = Statement::named("LOGIN", "");
        match body.first() {
            Some(0x00) => {
                self.log.add(&statement, QueryOutcome::Done, self.began);
                self.phase = Phase::Open;
                self.status_of_ok(body);
                if self.can & (can::COMPRESS | can::ZSTD) != 0 {
                    self.log.lose("the connection is compressed, which is not read");
                }
                Ok(())
            }
            Some(0xff) => {
                self.log.fail(&statement, self.began, error(body));
                self.phase = Phase::Over;
                Ok(())
            }
            // Another way to log in, or more about it.
            Some(0x01 | 0xfe) => Ok(()),
            // A plugin's own word.
            Some(_) => Ok(()),
            None => Err(Malformed),
        }
    }
}

/// What a server can, behind its version in the greeting.
fn capabilities(mut fields: Fields<'_>) -> Option<u64> {
    fields.text()?;
    // Connection, the first part of the challenge, filler.
    fields.take(4 + 8 + 1)?;
    let low = u64::from(u16::from_le_bytes(fields.array()?));
    // Servers of before 4.1 say no more.
    let Some([_, _, _]) = fields.array() else { return Some(low) };
    let high = u64::from(u16::from_le_bytes(fields.array()?)) << 16;
    fields.take(1 + 6)?;
    let extended = u64::from(u32::from_le_bytes(fields.array()?)) << 32;
    let extended = if low & can::LONG_PASSWORD == 0 { extended } else { 0 };
    Some(low | high | extended)
}

/// Who a change of user asks to be, and the database.
pub(super) fn change_of_user(mut fields: Fields<'_>) -> Option<(String, String)> {
    let user = name(fields.text()?);
    let proof = fields.byte()?;
    fields.take(usize::from(proof))?;
    let database = name(fields.text_or_rest());
    Some((user, database))
}
