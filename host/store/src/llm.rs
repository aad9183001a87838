//! What all hosts share about language models: kept answers, limits, budgets, and a provider's wish to be left alone.

use crate::{Error, Store, seal::Kind};
use std::borrow::Cow;
use waymark_job::llm::{Spent, Take, Taken};

impl Store {
    /// An answer that was kept.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn llm_cached(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        let mut command = redis::cmd("GET");
        command.arg(self.global(&format!("llm:cache:{key}")));
        let kept: Option<Vec<u8>> = self.inner.link.any(&command).await?;
        match kept.map(|kept| self.keyring().open(key, Kind::Answer, &kept).map(Cow::into_owned)) {
            // It is asked for anew.
            Some(Err(Error::KeyMissing(_))) => Ok(None),
            kept => kept.transpose(),
        }
    }

    /// Keeps an answer for `ttl_ms`, at least 1.
    ///
    /// # Errors
    /// The server does not answer, or has no room.
    pub async fn llm_keep(&self, key: &str, answer: &[u8], ttl_ms: u64) -> Result<(), Error> {
        let answer = self.keyring().seal(key, Kind::Answer, answer)?;
        let mut command = redis::cmd("SET");
        command.arg(self.global(&format!("llm:cache:{key}"))).arg(&*answer).arg("PX").arg(ttl_ms);
        let _: redis::Value = self.inner.link.any(&command).await?;
        Ok(())
    }

    /// Whether `asker`, a unique word, is the one that asks for this answer now, for `ttl_ms` unless it asks again here.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn llm_take_off(&self, key: &str, asker: &str, ttl_ms: u64) -> Result<bool, Error> {
        let mut call = self.call_at(&self.inner.scripts.llm_flight, self.global(""));
        call.arg("take").arg(key).arg(asker).arg(ttl_ms);
        let taken: u8 = call.run_once().await?;
        Ok(taken == 1)
    }

    /// Others may ask for this answer.
    ///
    /// # Errors
    /// The server does not answer: they may when the time is over.
    pub async fn llm_land(&self, key: &str, asker: &str) -> Result<(), Error> {
        let mut call = self.call_at(&self.inner.scripts.llm_flight, self.global(""));
        call.arg("leave").arg(key).arg(asker).arg(0);
        let _: u8 = call.run_once().await?;
        Ok(())
    }

    /// Books the estimate of a request, if limits and budgets leave room for it.
    ///
    /// # Errors
    /// The server does not answer; then the estimate may have been booked, and stays.
    pub async fn llm_take(&self, take: &Take) -> Result<Taken, Error> {
        let mut call = self.call_at(&self.inner.scripts.llm_take, self.global(""));
        call.arg(&take.provider).arg(&take.job_id).arg(&take.job_type).arg(take.tokens).arg(take.cost_micros);
        let limits = [
            take.requests_per_minute,
            take.tokens_per_minute,
            take.job_tokens,
            take.job_cost_micros,
            take.day_tokens,
            take.day_cost_micros,
        ];
        for limit in limits {
            call.arg(limit.unwrap_or(0));
        }
        let (word, number): (String, u64) = call.run_once().await?;
        match word.as_str() {
            "now" => Ok(Taken::Now(number)),
            "wait" => Ok(Taken::Wait(number)),
            "job" => Ok(Taken::JobBudget),
            "day" => Ok(Taken::DayBudget),
            other => Err(Error::corrupt("the answer of llm_take", other)),
        }
    }

    /// Corrects what was booked on `day` to what was used, and has all hosts leave the provider alone for as long as it
    /// asked for.
    ///
    /// # Errors
    /// The server does not answer; then what was booked stays.
    pub async fn llm_settle(&self, take: &Take, day: u64, spent: Spent) -> Result<(), Error> {
        let difference = |used: u64, booked: u64| i128::from(used) - i128::from(booked);
        let mut call = self.call_at(&self.inner.scripts.llm_settle, self.global(""));
        call.arg(&take.provider).arg(&take.job_id).arg(&take.job_type).arg(day);
        call.arg(difference(spent.tokens, take.tokens).to_string());
        call.arg(difference(spent.cost_micros, take.cost_micros).to_string());
        call.arg(take.tokens_per_minute.unwrap_or(0)).arg(spent.back_off_ms);
        let _: String = call.run_once().await?;
        Ok(())
    }
}
