//! How what is supervised here lives: what happens to it goes to the machine of its life (husk-life), what that says is
//! carried out, and what comes of it goes to the machine again.

use husk_life::Refusal;

use crate::core::Core;

/// Something with a machine for its life.
pub trait Lives {
    /// What can happen to it.
    type Event;
    /// What can follow.
    type Effect;

    /// Tells the machine of something that happens now; what it says.
    fn step(&mut self, event: Self::Event) -> Result<Vec<Self::Effect>, Refusal>;

    /// Does what the machine says; what comes of it, where that is the next event.
    fn carry_out(&mut self, core: &mut Core, effect: Self::Effect) -> Option<Self::Event>;

    /// Tells the machine of something that it may refuse.
    fn offer(&mut self, core: &mut Core, event: Self::Event) -> Result<(), Refusal> {
        let mut next = Some(event);
        while let Some(event) = next.take() {
            for effect in self.step(event)? {
                next = self.carry_out(core, effect);
                if next.is_some() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Tells the machine of something that just happens. Where it is refused, it comes too late, and nothing is to be done.
    fn happen(&mut self, core: &mut Core, event: Self::Event) {
        let _late = self.offer(core, event);
    }
}
