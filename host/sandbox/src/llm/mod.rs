//! `waymark:llm`: answers of language models. Addresses and keys stay here; guests see text.
//!
//! One call goes through: [`question`] (is it one that this job type may ask?), the cache of all hosts, the
//! [`ledger`] (limits, budgets, the provider's wish to be left alone), [`wire`] (HTTP), [`schema`] (does the answer
//! fit?), and once more where it does not. A call ends before the step's limit does, so that waiting for a model is an
//! error that a guest can handle, and never a trap.

pub mod config;
pub mod ledger;
mod metrics;
mod question;
mod recording;
mod schema;
mod wire;

pub(crate) mod bindings {
    //! Generated from `wit/deps/llm`.
    wasmtime::component::bindgen!({
        world: "imports",
        path: "../../wit/deps/llm",
        imports: { default: async | trappable },
    });
    pub(crate) use waymark::llm::chat;
}

pub(crate) use bindings::chat::{Answer, Error};
pub(crate) use metrics::Metrics;

use crate::{fault::Stop, secrets::Secrets, state::State};
use bindings::chat;
use config::{Grant, Provider};
use futures_util::future::join_all;
use ledger::Ledger;
use question::Question;
use serde::{Deserialize, Serialize};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;
use wasmtime::Result;
use waymark_job::llm::{Spent, Take, Taken};
use wire::{Reply, Trouble};

/// Requests in one call.
const REQUESTS_MAX: usize = 1_000;
/// First pause before a request is tried again; it doubles, up to the longest.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How long a provider that is busy and does not say how long is left alone.
const BUSY: Duration = Duration::from_secs(2);
/// Longest time that a provider may ask to be left alone.
const BUSY_MAX: Duration = Duration::from_secs(3_600);

/// How long others wait for an answer after its asker was last heard of, and how often it is heard of.
const FLIGHT_MS: u64 = 5_000;
const FLIGHT_RENEW: Duration = Duration::from_millis(1_500);
/// Pauses of those that wait.
const FLIGHT_PAUSE_MIN: Duration = Duration::from_millis(20);
const FLIGHT_PAUSE_MAX: Duration = Duration::from_millis(500);

/// A provider, made ready.
pub(crate) struct Endpoint {
    name: String,
    config: Provider,
    key: Option<String>,
    client: reqwest::Client,
    places: Semaphore,
}

impl Endpoint {
    /// # Errors
    /// Its secret is not there, or TLS cannot be set up.
    pub(crate) fn new(name: &str, config: &Provider, secrets: &Secrets) -> Result<Self, String> {
        let key = match &config.key {
            None => None,
            Some(key) => match secrets.get(key) {
                Some(secret) => Some(secret.to_owned()),
                None => return Err(format!("llm.{name}.key: there is no secret {key:?} under [secrets]")),
            },
        };
        // A redirect would carry the prompt, and perhaps the key, to a place that nobody named.
        let client =
            reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build();
        Ok(Self {
            name: name.to_owned(),
            key,
            client: client.map_err(|error| format!("llm.{name}: {error}"))?,
            places: Semaphore::new(config.concurrency.get() as usize),
            config: config.clone(),
        })
    }
}

/// What a job type may ask, made ready.
pub(crate) struct Chat {
    job_type: String,
    grant: Grant,
    endpoint: Option<Arc<Endpoint>>,
    ledger: Option<Arc<dyn Ledger>>,
    metrics: Arc<Metrics>,
}

/// A kept answer.
#[derive(Serialize, Deserialize)]
struct Kept {
    content: String,
    repaired: bool,
    truncated: bool,
}

/// What one exchange with the endpoint cost.
#[derive(Clone, Copy, Default)]
struct Cost {
    prompt_tokens: u64,
    completion_tokens: u64,
    micros: u64,
}

impl Chat {
    pub(crate) fn new(
        job_type: &str,
        grant: &Grant,
        endpoint: Option<Arc<Endpoint>>,
        ledger: Option<Arc<dyn Ledger>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { job_type: job_type.to_owned(), grant: grant.clone(), endpoint, ledger, metrics }
    }

    /// Answers the request of this index in a call.
    async fn answer(
        &self,
        job_id: &str,
        index: usize,
        end: Option<Instant>,
        shadow: bool,
        request: chat::Request,
    ) -> Result<Answer, Error> {
        let Some(endpoint) = &self.endpoint else {
            return Err(Error::NotConfigured(format!(
                "no provider is configured for {}: write `provider = \"...\"` under [plugins.{}.grants.llm]",
                self.job_type, self.job_type
            )));
        };
        let fresh = request.fresh;
        let question = Question::of(request, &self.grant, &endpoint.config)?;
        let validator = question.schema.as_ref().map(schema::validator).transpose();
        let validator = validator.map_err(Error::BadRequest)?;
        let refusal = shadow.then_some("a shadow job gets answers that are kept, and asks for no new ones");
        let allowed = || refusal.map_or(Ok(()), |why| Err(Error::Refused(why.to_owned())));
        let Some(ledger) = self.ledger.as_ref().filter(|_| !fresh && endpoint.config.cache_ms > 0) else {
            allowed()?;
            let (kept, cost) = self.fitting(endpoint, job_id, end, &question, validator.as_ref()).await?;
            return Ok(answer(question.model, kept, cost, false));
        };
        let key = format!("{}:{}", endpoint.name, question.key());
        // The same when the step runs again after a crash: it need not wait for itself.
        let asker = format!("{job_id}:{index}");
        let mut pause = FLIGHT_PAUSE_MIN;
        loop {
            if let Some(kept) = cached(ledger.as_ref(), &key).await? {
                return Ok(answer(question.model, kept, Cost::default(), true));
            }
            allowed()?;
            // Of all that ask the same at this moment one pays, and the others are answered from the cache.
            if ledger.take_off(&key, &asker, FLIGHT_MS).await.map_err(Error::Unavailable)? {
                break;
            }
            sleep(pause, end, "another job is asking the same").await?;
            pause = (pause * 2).min(FLIGHT_PAUSE_MAX);
        }
        let asked = async {
            // The one before may have landed between the two looks.
            if let Some(kept) = cached(ledger.as_ref(), &key).await? {
                return Ok((kept, Cost::default(), true));
            }
            let (kept, cost) = self.fitting(endpoint, job_id, end, &question, validator.as_ref()).await?;
            if let Ok(bytes) = serde_json::to_vec(&kept)
                && let Err(error) = ledger.keep(&key, &bytes, endpoint.config.cache_ms).await
            {
                tracing::warn!(error, "an answer of a language model could not be kept");
            }
            Ok((kept, cost, false))
        };
        let asked: Result<(Kept, Cost, bool), Error> = in_flight(ledger.as_ref(), &key, &asker, asked).await;
        if let Err(error) = ledger.land(&key, &asker).await {
            tracing::warn!(error, "others that ask the same wait longer than they need");
        }
        let (kept, cost, cached) = asked?;
        Ok(answer(question.model, kept, cost, cached))
    }

    /// An answer that fits, asked for once more where the first does not.
    async fn fitting(
        &self,
        endpoint: &Endpoint,
        job_id: &str,
        end: Option<Instant>,
        question: &Question,
        validator: Option<&jsonschema::Validator>,
    ) -> Result<(Kept, Cost), Error> {
        let (reply, mut cost) = self.exchange(endpoint, job_id, end, question).await?;
        let mut kept = Kept { content: reply.content, repaired: false, truncated: reply.truncated };
        if let Some(validator) = validator {
            kept.content = match schema::fitting(validator, &kept.content) {
                Ok(content) => content,
                Err(wrong) => {
                    let again = question.repair(&kept.content, &wrong);
                    let (reply, more) = self.exchange(endpoint, job_id, end, &again).await?;
                    cost.prompt_tokens += more.prompt_tokens;
                    cost.completion_tokens += more.completion_tokens;
                    cost.micros += more.micros;
                    kept.repaired = true;
                    kept.truncated = reply.truncated;
                    schema::fitting(validator, &reply.content)
                        .map_err(|wrong| Error::BadAnswer(format!("asked twice, and still: {wrong}")))?
                }
            };
        }
        Ok((kept, cost))
    }

    /// Asks until there is an answer, the tries are used up, or the step's time is.
    async fn exchange(
        &self,
        endpoint: &Endpoint,
        job_id: &str,
        end: Option<Instant>,
        question: &Question,
    ) -> Result<(Reply, Cost), Error> {
        let Endpoint { config, .. } = endpoint;
        if let Some(directory) = &config.replay {
            match recording::read(directory, question) {
                Ok(Some(reply)) => return Ok((reply, Cost::default())),
                Ok(None) if config.url.is_some() => {}
                Ok(None) => {
                    let key = question.key();
                    return Err(Error::Refused(format!("there is no recording {key}.json of this request")));
                }
                Err(why) => return Err(Error::Refused(why)),
            }
        }
        let mut pause = PAUSE_MIN;
        let mut tries = 1;
        loop {
            let trouble = match self.once(endpoint, job_id, end, question).await? {
                Ok(answered) => {
                    if let Some(directory) = &config.replay {
                        recording::write(directory, question, &answered.0).map_err(Error::Refused)?;
                    }
                    return Ok(answered);
                }
                Err(trouble) => trouble,
            };
            let (wait, why) = match trouble {
                Trouble::Refused(why) => return Err(Error::Refused(why)),
                // Every host waits by the ledger; without one this is all there is.
                Trouble::Busy(after) => {
                    (after.unwrap_or(BUSY).min(BUSY_MAX), "the provider is busy".to_owned())
                }
                Trouble::Passing(why) => (pause, why),
            };
            if tries >= config.attempts {
                return Err(Error::Unavailable(format!("{why} ({tries} tries)")));
            }
            sleep(wait, end, &why).await?;
            tries += 1;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Waits for its turn and asks once. The outer error is final.
    async fn once(
        &self,
        endpoint: &Endpoint,
        job_id: &str,
        end: Option<Instant>,
        question: &Question,
    ) -> Result<Result<(Reply, Cost), Trouble>, Error> {
        let Endpoint { name, config, key, client, places } = endpoint;
        let Some(url) = &config.url else {
            return Err(Error::NotConfigured(format!("llm.{name} has no url")));
        };
        let place = until(end, places.acquire(), "all places for requests are taken").await?;
        let take = self.estimate(endpoint, job_id, question);
        let day = self.book(&take, end).await?;
        let began = Instant::now();
        let asked = wire::ask(client, url, key.as_deref(), config, question);
        let asked = match until(end, asked, "the model did not answer within this step").await {
            Ok(asked) => asked,
            Err(error) => {
                // The provider may still charge for it: what was booked stays.
                self.metrics.asked(name, "timeout", began.elapsed());
                return Err(Error::Unavailable(why(error)));
            }
        };
        drop(place);
        let outcome = match &asked {
            Ok(_) => "answered",
            Err(Trouble::Busy(_)) => "busy",
            Err(Trouble::Passing(_)) => "failed",
            Err(Trouble::Refused(_)) => "refused",
        };
        self.metrics.asked(name, outcome, began.elapsed());
        let price = config.models.get(&question.model).copied().unwrap_or_default();
        let cost = match &asked {
            Ok(reply) => {
                let prompt_tokens = reply.prompt_tokens.unwrap_or_else(|| question.prompt_tokens());
                let completion_tokens = reply.completion_tokens.unwrap_or(u64::from(question.max_tokens));
                let micros = price.micros(prompt_tokens, completion_tokens);
                Cost { prompt_tokens, completion_tokens, micros }
            }
            Err(_) => Cost::default(),
        };
        let back_off = match &asked {
            Err(Trouble::Busy(after)) => after.unwrap_or(BUSY).min(BUSY_MAX),
            _ => Duration::ZERO,
        };
        let spent = Spent {
            tokens: cost.prompt_tokens + cost.completion_tokens,
            cost_micros: cost.micros,
            back_off_ms: ms(back_off),
        };
        self.metrics.spent(&self.job_type, name, cost);
        if let Some(ledger) = &self.ledger
            && let Err(error) = ledger.settle(&take, day, spent).await
        {
            tracing::warn!(error, provider = name, "what a language model cost could not be booked");
        }
        Ok(asked.map(|reply| (reply, cost)))
    }

    fn estimate(&self, endpoint: &Endpoint, job_id: &str, question: &Question) -> Take {
        let Provider { models, requests_per_minute, tokens_per_minute, .. } = &endpoint.config;
        let (prompt, completion) = (question.prompt_tokens(), u64::from(question.max_tokens));
        let micros = |money: f64| (money.max(0.0) * 1e6) as u64;
        Take {
            provider: endpoint.name.clone(),
            job_id: job_id.to_owned(),
            job_type: self.job_type.clone(),
            tokens: prompt + completion,
            cost_micros: models.get(&question.model).copied().unwrap_or_default().micros(prompt, completion),
            requests_per_minute: requests_per_minute.map(|limit| u64::from(limit.get())),
            tokens_per_minute: tokens_per_minute.map(std::num::NonZero::get),
            job_tokens: self.grant.job_tokens.map(std::num::NonZero::get),
            job_cost_micros: self.grant.job_cost.map(micros),
            day_tokens: self.grant.day_tokens.map(std::num::NonZero::get),
            day_cost_micros: self.grant.day_cost.map(micros),
        }
    }

    /// Waits until the ledger lets the request pass. Returns the day on which it is booked.
    async fn book(&self, take: &Take, end: Option<Instant>) -> Result<u64, Error> {
        let Some(ledger) = &self.ledger else { return Ok(0) };
        let over =
            |what: &str| Error::OverBudget(format!("{what}: see [plugins.{}.grants.llm]", self.job_type));
        loop {
            match ledger.take(take).await.map_err(Error::Unavailable)? {
                Taken::Now(day) => return Ok(day),
                Taken::JobBudget => return Err(over("the job has used up its tokens or money")),
                Taken::DayBudget => {
                    return Err(over("the job type has used up its tokens or money of today"));
                }
                Taken::Wait(ms) => {
                    sleep(Duration::from_millis(ms), end, "a limit on calls of the provider").await?;
                }
            }
        }
    }
}

/// A kept answer, if there is one that can be read.
async fn cached(ledger: &dyn Ledger, key: &str) -> Result<Option<Kept>, Error> {
    let kept = ledger.cached(key).await.map_err(Error::Unavailable)?;
    Ok(kept.and_then(|kept| serde_json::from_slice(&kept).ok()))
}

/// Waits for something, and meanwhile tells all others that it is under way.
async fn in_flight<T>(ledger: &dyn Ledger, key: &str, asker: &str, asked: impl Future<Output = T>) -> T {
    let mut asked = std::pin::pin!(asked);
    loop {
        match tokio::time::timeout(FLIGHT_RENEW, &mut asked).await {
            Ok(asked) => return asked,
            // One that is not heard of is asked a second time, at worst.
            Err(_) => drop(ledger.take_off(key, asker, FLIGHT_MS).await),
        }
    }
}

fn answer(model: String, kept: Kept, cost: Cost, cached: bool) -> Answer {
    Answer {
        content: kept.content,
        model,
        prompt_tokens: cost.prompt_tokens,
        completion_tokens: cost.completion_tokens,
        cost_micros: cost.micros,
        cached,
        repaired: kept.repaired,
        truncated: kept.truncated,
    }
}

/// Waits, unless the step would be over by then.
async fn sleep(wait: Duration, end: Option<Instant>, why: &str) -> Result<(), Error> {
    if end.is_some_and(|end| Instant::now() + wait >= end) {
        let ms = ms(wait);
        return Err(Error::Limited((ms, format!("{why}: no room for {ms} ms"))));
    }
    tokio::time::sleep(wait).await;
    Ok(())
}

/// Waits for something until the step is nearly over.
async fn until<T>(end: Option<Instant>, future: impl Future<Output = T>, late: &str) -> Result<T, Error> {
    let Some(end) = end else { return Ok(future.await) };
    match tokio::time::timeout_at(end.into(), future).await {
        Ok(done) => Ok(done),
        Err(_) => Err(Error::Limited((ms(BUSY), late.to_owned()))),
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The sentence of an error.
fn why(error: Error) -> String {
    match error {
        Error::NotConfigured(why)
        | Error::BadRequest(why)
        | Error::OverBudget(why)
        | Error::BadAnswer(why)
        | Error::Refused(why)
        | Error::Limited((_, why))
        | Error::Unavailable(why) => why,
    }
}

impl chat::Host for State {
    async fn complete(&mut self, request: chat::Request) -> Result<Result<Answer, Error>> {
        let mut answers = self.complete_many(vec![request]).await?;
        answers.pop().ok_or_else(|| wasmtime::Error::msg("one answer for one request"))
    }

    async fn complete_many(&mut self, requests: Vec<chat::Request>) -> Result<Vec<Result<Answer, Error>>> {
        if requests.len() > REQUESTS_MAX {
            let message = format!("{} requests in one call are more than {REQUESTS_MAX}", requests.len());
            return Err(Stop::Oversized(message).into());
        }
        let Some(chat) = self.capabilities.llm.clone() else {
            let absent = || Err(Error::NotConfigured("there is no language model here".to_owned()));
            return Ok(requests.iter().map(|_| absent()).collect());
        };
        let (job_id, end, shadow) = (self.context.job_id.clone(), self.patience(), self.context.shadow);
        let answers = requests.into_iter().enumerate().map(|(index, request)| {
            let (chat, job_id, call) = (&chat, &job_id, self.call());
            async move {
                let answer = chat.answer(job_id, index, end, shadow, request).await;
                let outcome = metrics::outcome(&answer);
                chat.metrics.called(&chat.job_type, outcome);
                let provider = chat.endpoint.as_ref().map_or("", |endpoint| endpoint.name.as_str());
                call.end("llm", provider, answer.is_err().then_some(outcome));
                answer
            }
        });
        let answers: Vec<_> = answers.collect();
        Ok(join_all(answers).await)
    }
}
