//! The behaviours that a case asks of a method, as picom handlers.

use std::collections::BTreeMap;
use std::future::{pending, ready};
use std::sync::{Arc, Mutex, PoisonError};

use picom::{HandlerError, Methods};
use serde::Deserialize;
use serde_json::value::RawValue;

/// What a method does. README.md has the list.
#[derive(Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Behaviour {
    Return(Box<RawValue>),
    Nothing,
    Echo,
    Number,
    ThrowText(String),
    ThrowError(Thrown),
    ThrowValue(Box<RawValue>),
    Panic(String),
    Hang,
}

/// An error with fields of its own.
#[derive(Clone, Deserialize)]
pub(crate) struct Thrown {
    message: String,
    fields: Option<Box<RawValue>>,
}

/// How often each method ran.
#[derive(Clone, Default)]
pub(crate) struct Calls(Arc<Mutex<BTreeMap<String, u64>>>);

impl Calls {
    fn count(&self, target: &str) {
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *calls.entry(target.to_owned()).or_default() += 1;
    }

    pub(crate) fn snapshot(&self) -> BTreeMap<String, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

type Message = Box<RawValue>;
type Ended<T> = Result<T, HandlerError>;

/// Adds a method that counts its calls and behaves as asked.
pub(crate) fn add(
    methods: Methods,
    service: &str,
    name: String,
    behaviour: Behaviour,
    calls: &Calls,
) -> Methods {
    let (calls, target) = (calls.clone(), format!("{service}.{name}"));
    match behaviour {
        Behaviour::Return(value) => methods.add(name, move |_: Message| {
            calls.count(&target);
            ready(Ended::Ok(value.clone()))
        }),
        Behaviour::Echo => methods.add(name, move |message: Message| {
            calls.count(&target);
            ready(Ended::Ok(message))
        }),
        Behaviour::Number => methods.add(name, move |message: i64| {
            calls.count(&target);
            ready(Ended::Ok(message))
        }),
        Behaviour::Nothing => methods.add(name, move |_: Message| {
            calls.count(&target);
            ready(Ended::Ok(()))
        }),
        Behaviour::Hang => methods.add(name, move |_: Message| {
            calls.count(&target);
            pending::<Ended<()>>()
        }),
        Behaviour::Panic(text) => methods.add(name, move |_: Message| {
            calls.count(&target);
            let text = text.clone();
            async move {
                if true {
                    panic!("{text}");
                }
                Ended::Ok(())
            }
        }),
        failing => methods.add(name, move |_: Message| {
            calls.count(&target);
            ready(Ended::<()>::Err(failure(&failing)))
        }),
    }
}

fn failure(behaviour: &Behaviour) -> HandlerError {
    match behaviour {
        Behaviour::ThrowText(text) => HandlerError::new(text),
        Behaviour::ThrowValue(json) => HandlerError::new(json.get()),
        Behaviour::ThrowError(Thrown { message, fields: Some(fields) }) => {
            HandlerError::new(message)
                .with_details(fields)
                .unwrap_or_else(|error| HandlerError::new(error.message()))
        }
        Behaviour::ThrowError(Thrown { message, fields: None }) => HandlerError::new(message),
        _ => HandlerError::new("not a failure"),
    }
}
