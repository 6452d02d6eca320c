//! Bookings, and the mail that only a confirmed one may cause: the `ConfirmBooking` example of
//! RavenDB with IronMQ. The mail is requested by the same commit that confirms the booking: there
//! is no mail without a booking, and no second mail when the confirmation comes twice.

use serde::{Deserialize, Serialize};
use tribox_guest::{Description, Effects, Failure, Handler, Message, Subscription, documents};

/// `bookings.<id>.request`.
#[derive(Deserialize)]
struct RequestBooking {
    email: String,
    show: String,
}

/// Document `bookings/<id>`.
#[derive(Serialize, Deserialize)]
struct Booking {
    email: String,
    show: String,
    state: State,
}

#[derive(PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Requested,
    Confirmed,
}

#[derive(Serialize)]
struct BookingConfirmed<'a> {
    booking: &'a str,
    show: &'a str,
}

/// `email.send`, for whoever sends mail.
#[derive(Serialize)]
struct SendEmail<'a> {
    to: &'a str,
    subject: String,
}

struct Bookings;

impl Handler for Bookings {
    fn describe() -> Description {
        let keyed = |subject| Subscription::to(subject).key_from_subject(1).read_ahead("bookings");
        Description::new("bookings", env!("CARGO_PKG_VERSION"))
            .subscribe(keyed("bookings.*.request"))
            .subscribe(keyed("bookings.*.confirm"))
            .collection("bookings")
            .publish("bookings.events.>")
            .publish("email.send")
    }

    fn handle(message: Message) -> Result<Effects, Failure> {
        let id = message.key()?;
        let booking: Option<Booking> = documents::get("bookings", id)?;
        match (message.last_token(), booking) {
            ("request", None) => request(id, message.json()?),
            ("request", Some(_)) => Err(Failure::reject(format!("booking {id} is taken"))),
            // The request may stand in another stream and come later than its confirmation.
            (_, None) => Err(Failure::retry(format!("booking {id} is not requested yet"))),
            (_, Some(booking)) => confirm(id, booking),
        }
    }
}

tribox_guest::export!(Bookings);

fn request(id: &str, RequestBooking { email, show }: RequestBooking) -> Result<Effects, Failure> {
    let mut effects = Effects::new();
    effects.put("bookings", id, &Booking { email, show, state: State::Requested })?;
    Ok(effects)
}

fn confirm(id: &str, mut booking: Booking) -> Result<Effects, Failure> {
    let mut effects = Effects::new();
    if booking.state == State::Confirmed {
        return Ok(effects);
    }
    booking.state = State::Confirmed;
    effects.put("bookings", id, &booking)?;
    let confirmed = BookingConfirmed { booking: id, show: &booking.show };
    effects.send(format!("bookings.events.{id}.confirmed"), &confirmed)?;
    let subject = format!("Your booking {id} for {} is confirmed", booking.show);
    effects.send("email.send", &SendEmail { to: &booking.email, subject })?;
    Ok(effects)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tribox_guest::testing::{Incoming, TestHost, assert_effects, message};

    use super::*;

    fn requested() -> Incoming {
        message("bookings.7.request").json(&json!({"email": "a@example.com", "show": "Lear"}))
    }

    #[test]
    fn a_confirmed_booking_is_told_and_mailed_once() -> Result<(), Failure> {
        let mut host = TestHost::<Bookings>::new();
        assert_effects(
            &host.handle(requested())?,
            r#"put bookings/7 {"email":"a@example.com","show":"Lear","state":"requested"}"#,
        );
        assert_effects(
            &host.handle(message("bookings.7.confirm"))?,
            r#"
            put bookings/7 {"email":"a@example.com","show":"Lear","state":"confirmed"}
            send bookings.events.7.confirmed {"booking":"7","show":"Lear"}
            send email.send {"to":"a@example.com","subject":"Your booking 7 for Lear is confirmed"}
            "#,
        );
        assert_effects(&host.handle(message("bookings.7.confirm"))?, "");
        Ok(())
    }

    #[test]
    fn a_confirmation_waits_for_its_request() -> Result<(), Failure> {
        let mut host = TestHost::<Bookings>::new();
        let early = host.handle(message("bookings.7.confirm"));
        assert_eq!(early, Err(Failure::retry("booking 7 is not requested yet")));
        host.handle(requested())?;
        assert_eq!(host.handle(message("bookings.7.confirm"))?.messages.len(), 2);
        Ok(())
    }

    #[test]
    fn a_booking_is_requested_once() -> Result<(), Failure> {
        let mut host = TestHost::<Bookings>::new();
        host.handle(requested())?;
        assert_eq!(host.handle(requested()), Err(Failure::reject("booking 7 is taken")));
        Ok(())
    }
}
