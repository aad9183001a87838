//! Answers of a language model that the operator granted to this job type (`waymark:llm`, [`wit/deps/llm`]).
//!
//! Address and key stay in the host, which also keeps answers for a while: a step that runs again after a crash asks
//! the same again, is answered from there and pays nothing. Work on a few requests per step, and emit or keep their
//! answers before the next.
//!
//! ```
//! use waymark_sdk::{llm::{self, Request}, prelude::*};
//!
//! #[derive(Deserialize, JsonSchema)]
//! struct Verdict { risky: bool, reason: String }
//!
//! fn judge(sections: &[String]) -> Result<Vec<Option<Verdict>>, Failure> {
//!     let ask = |section: &String| Request::new(section.as_str()).system("Is this a risk? One sentence.");
//!     let verdicts = llm::ask_all::<Verdict>(sections.iter().map(ask));
//!     verdicts.into_iter().map(|verdict| match verdict {
//!         Ok((verdict, _)) => Ok(Some(verdict)),
//!         // Without a model, or with an answer of no use, the rules decide.
//!         Err(error) if error.is_absent() || matches!(error, llm::Error::BadAnswer(_)) => Ok(None),
//!         Err(error) => Err(error.into()),
//!     }).collect()
//! }
//! # fn main() {
//! # llm::answer_on_this_thread(|_| Ok(r#"{"risky": true, "reason": "new"}"#.to_owned()));
//! # assert!(judge(&["a section".to_owned()]).unwrap()[0].as_ref().unwrap().risky);
//! # }
//! ```
//!
//! Natively, in tests, the model is a function given to [`answer_on_this_thread`]; without one every call fails with
//! [`Error::NotConfigured`].
//!
//! [`wit/deps/llm`]: https://github.com/waymark-rs/waymark/blob/main/wit/deps/llm/llm.wit

use crate::Failure;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use std::fmt::{Display, Formatter};

#[cfg(not(target_arch = "wasm32"))]
pub use inner::answer_on_this_thread;

/// Who says something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Role {
    System,
    User,
    Assistant,
}

/// What is asked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Request {
    /// What was said so far, at least one message.
    pub messages: Vec<(Role, String)>,
    /// One of the models that the operator allows; `None`: the grant's own.
    pub model: Option<String>,
    /// Longest answer, in tokens; `None`: the grant's own.
    pub max_tokens: Option<u32>,
    /// 0 to 2; `None`: 0.
    pub temperature: Option<f32>,
    /// Asks for the same answer each time, where the provider can do that.
    pub seed: Option<i64>,
    /// JSON Schema that the answer must fit. [`ask`] fills it in.
    pub schema: Option<String>,
    /// Neither read the host's cache nor write it.
    pub fresh: bool,
}

impl Request {
    /// A question.
    pub fn new(question: impl Into<String>) -> Self {
        Self { messages: vec![(Role::User, question.into())], ..Self::default() }
    }

    /// Puts an instruction before everything else.
    #[must_use]
    pub fn system(mut self, instruction: impl Into<String>) -> Self {
        self.messages.insert(0, (Role::System, instruction.into()));
        self
    }

    /// Adds a message.
    #[must_use]
    pub fn message(mut self, role: Role, content: impl Into<String>) -> Self {
        self.messages.push((role, content.into()));
        self
    }

    /// Names a model.
    #[must_use]
    pub fn model(mut self, model: impl Into<String>) -> Self {
        self.model = Some(model.into());
        self
    }

    /// Bounds the answer, in tokens.
    #[must_use]
    pub fn max_tokens(mut self, tokens: u32) -> Self {
        self.max_tokens = Some(tokens);
        self
    }

    /// Sets the temperature.
    #[must_use]
    pub fn temperature(mut self, temperature: f32) -> Self {
        self.temperature = Some(temperature);
        self
    }

    /// Asks for JSON that fits this schema.
    #[must_use]
    pub fn schema(mut self, schema: impl Into<String>) -> Self {
        self.schema = Some(schema.into());
        self
    }

    /// Leaves the host's cache alone.
    #[must_use]
    pub fn fresh(mut self) -> Self {
        self.fresh = true;
        self
    }
}

/// What was answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// The model's text; with a schema, JSON text that fits it.
    pub content: String,
    /// The model that answered.
    pub model: String,
    /// Tokens that were paid for; 0 from the cache.
    pub prompt_tokens: u64,
    /// Tokens of the answer that were paid for; 0 from the cache.
    pub completion_tokens: u64,
    /// What they cost, in millionths of the operator's currency.
    pub cost_micros: u64,
    /// Nothing was asked or paid.
    pub cached: bool,
    /// The first answer did not fit the schema.
    pub repaired: bool,
    /// The answer ended because it was too long.
    pub truncated: bool,
}

/// Why there is no answer. As a [`Failure`] it is what the host should make of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// No provider is configured for this job type.
    NotConfigured(String),
    /// The request is not one that can be sent.
    BadRequest(String),
    /// The job or its type has used up its tokens or money.
    OverBudget(String),
    /// The answer did not fit the schema, and neither did the second one.
    BadAnswer(String),
    /// The provider refused.
    Refused(String),
    /// A limit on calls leaves no room now: come back after so many milliseconds.
    Limited(u64, String),
    /// The provider did not answer in time, or failed.
    Unavailable(String),
}

impl Error {
    /// There is no model for this job type: a job that can do without goes on without.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::NotConfigured(_))
    }
}

impl Display for Error {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotConfigured(why)
            | Self::BadRequest(why)
            | Self::OverBudget(why)
            | Self::BadAnswer(why)
            | Self::Refused(why)
            | Self::Limited(_, why)
            | Self::Unavailable(why) => write!(formatter, "language model: {why}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Limited(ms, _) => Self::RetryAfter(std::time::Duration::from_millis(ms), message),
            Error::Unavailable(_) => Self::Transient(message),
            _ => Self::Permanent(message),
        }
    }
}

/// One answer. *Immediate.*
///
/// # Errors
/// See [`Error`].
pub fn complete(request: &Request) -> Result<Answer, Error> {
    inner::complete(request)
}

/// Many answers, asked for in parallel by the host; one for each request, in their order. At most 1,000 at once.
/// *Immediate.*
pub fn complete_all(requests: &[Request]) -> Vec<Result<Answer, Error>> {
    inner::complete_all(requests)
}

/// One answer as a value; the host makes sure that it fits the type's schema. *Immediate.*
///
/// # Errors
/// See [`Error`].
pub fn ask<T: DeserializeOwned + JsonSchema>(request: Request) -> Result<(T, Answer), Error> {
    typed(complete(&request.schema(crate::guest::schema::<T>())))
}

/// Many answers as values, asked for in parallel by the host. *Immediate.*
pub fn ask_all<T: DeserializeOwned + JsonSchema>(
    requests: impl IntoIterator<Item = Request>,
) -> Vec<Result<(T, Answer), Error>> {
    let schema = crate::guest::schema::<T>();
    let requests: Vec<_> = requests.into_iter().map(|request| request.schema(schema.as_str())).collect();
    complete_all(&requests).into_iter().map(typed).collect()
}

fn typed<T: DeserializeOwned>(answer: Result<Answer, Error>) -> Result<(T, Answer), Error> {
    let answer = answer?;
    let value = serde_json::from_str(&answer.content)
        .map_err(|error| Error::BadAnswer(format!("the answer does not fit its type: {error}")))?;
    Ok((value, answer))
}

#[cfg(target_arch = "wasm32")]
mod inner {
    use super::{Answer, Error, Request, Role};

    #[allow(missing_docs, clippy::all, reason = "written by wit-bindgen")]
    mod bindings {
        wit_bindgen::generate!({ path: "../../wit/deps/llm", world: "imports" });
    }

    use bindings::waymark::llm::chat;

    pub(super) fn complete(request: &Request) -> Result<Answer, Error> {
        answer(chat::complete(&sent(request)))
    }

    pub(super) fn complete_all(requests: &[Request]) -> Vec<Result<Answer, Error>> {
        let requests: Vec<_> = requests.iter().map(sent).collect();
        chat::complete_many(&requests).into_iter().map(answer).collect()
    }

    fn sent(request: &Request) -> chat::Request {
        let message = |(role, content): &(Role, String)| chat::Message {
            role: match role {
                Role::System => chat::Role::System,
                Role::User => chat::Role::User,
                Role::Assistant => chat::Role::Assistant,
            },
            content: content.clone(),
        };
        chat::Request {
            messages: request.messages.iter().map(message).collect(),
            model: request.model.clone(),
            max_tokens: request.max_tokens,
            temperature: request.temperature,
            seed: request.seed,
            schema: request.schema.clone(),
            fresh: request.fresh,
        }
    }

    fn answer(answered: Result<chat::Answer, chat::Error>) -> Result<Answer, Error> {
        let chat::Answer {
            content,
            model,
            prompt_tokens,
            completion_tokens,
            cost_micros,
            cached,
            repaired,
            truncated,
        } = answered.map_err(|error| match error {
            chat::Error::NotConfigured(why) => Error::NotConfigured(why),
            chat::Error::BadRequest(why) => Error::BadRequest(why),
            chat::Error::OverBudget(why) => Error::OverBudget(why),
            chat::Error::BadAnswer(why) => Error::BadAnswer(why),
            chat::Error::Refused(why) => Error::Refused(why),
            chat::Error::Limited((ms, why)) => Error::Limited(ms, why),
            chat::Error::Unavailable(why) => Error::Unavailable(why),
        })?;
        Ok(Answer {
            content,
            model,
            prompt_tokens,
            completion_tokens,
            cost_micros,
            cached,
            repaired,
            truncated,
        })
    }
}

#[cfg(not(target_arch = "wasm32"))]
mod inner {
    use super::{Answer, Error, Request};
    use std::{cell::RefCell, rc::Rc};

    type Model = Rc<dyn Fn(&Request) -> Result<String, Error>>;

    thread_local! {
        static MODEL: RefCell<Option<Model>> = const { RefCell::new(None) };
    }

    /// From now on this thread's jobs are answered by this function. For tests.
    pub fn answer_on_this_thread(model: impl Fn(&Request) -> Result<String, Error> + 'static) {
        MODEL.set(Some(Rc::new(model)));
    }

    pub(super) fn complete(request: &Request) -> Result<Answer, Error> {
        let model = MODEL.with_borrow(Clone::clone).ok_or_else(|| {
            Error::NotConfigured("no model: give one to waymark_sdk::llm::answer_on_this_thread".to_owned())
        })?;
        let content = model(request)?;
        Ok(Answer { content, model: "test".to_owned(), ..Answer::default() })
    }

    pub(super) fn complete_all(requests: &[Request]) -> Vec<Result<Answer, Error>> {
        requests.iter().map(complete).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_model_calls_fail_in_a_way_that_a_job_can_tell() {
        let error = complete(&Request::new("?")).unwrap_err();
        assert!(error.is_absent());
        assert!(matches!(Failure::from(error), Failure::Permanent(_)));
    }

    #[test]
    fn a_typed_question_carries_its_schema_and_reads_its_answer() {
        answer_on_this_thread(|request| {
            assert!(request.schema.as_deref().is_some_and(|schema| schema.contains("boolean")));
            assert_eq!(request.messages[0].0, Role::System);
            Ok(request.messages[1].1.clone())
        });
        let asked = ["true", "7"].map(|text| Request::new(text).system("yes or no"));
        let answers = ask_all::<bool>(asked);
        assert!(answers[0].as_ref().unwrap().0);
        assert!(matches!(answers[1], Err(Error::BadAnswer(_))));
    }

    #[test]
    fn an_error_says_what_the_host_should_make_of_it() {
        let failure = Failure::from(Error::Limited(50, "later".into()));
        assert!(matches!(failure, Failure::RetryAfter(after, _) if after.as_millis() == 50));
        assert!(matches!(Failure::from(Error::Unavailable(String::new())), Failure::Transient(_)));
    }
}
