//! From a [`Handler`] to the export of a component. It must never do more than pass on, so that
//! what a test sees natively is what the host sees.

use crate::bindings::exports::tribox::handler::handler::Guest;
use crate::{Description, Effects, Failure, Handler, Message};

/// The component's export for handler `H`.
pub struct Export<H>(std::marker::PhantomData<H>);

impl<H: Handler> Guest for Export<H> {
    fn describe() -> Description {
        H::describe()
    }

    fn handle(message: Message) -> Result<Effects, Failure> {
        H::handle(message)
    }
}

/// Exports a [`Handler`] from the component that this crate is built to.
///
/// Once per crate, which has `crate-type = ["cdylib", "rlib"]`. On targets other than wasm it only
/// checks that the type is a handler, so that unit tests build.
///
/// ```
/// # use tribox_guest::{Description, Effects, Failure, Handler, Message, Subscription};
/// struct Silent;
///
/// impl Handler for Silent {
///     fn describe() -> Description {
///         Description::new("silent", "1.0.0").subscribe(Subscription::to("noise.>"))
///     }
///
///     fn handle(_: Message) -> Result<Effects, Failure> {
///         Ok(Effects::new())
///     }
/// }
///
/// tribox_guest::export!(Silent);
/// ```
#[macro_export]
macro_rules! export {
    ($handler:ty) => {
        const _: () = {
            type Component = $crate::Export<$handler>;

            #[cfg(target_family = "wasm")]
    $crate::bindings::export_component!(Component with_types_in $crate::bindings);

            #[cfg(not(target_family = "wasm"))]
            const _: fn() -> $crate::Description =
                <Component as $crate::bindings::exports::tribox::handler::handler::Guest>::describe;
        };
    };
}
