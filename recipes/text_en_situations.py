"""Sentences of everyday life, service calls and interviews, put together from parts, for the English text recipe.

Comments and TV dialogue hold few complaints, requests and plain reports. What happens in these sentences follows the
appraisal theory of emotions (Ortony, Clore & Collins 1988): somebody is to blame (anger), something is foul (disgust),
threatens (fear), comes out well (happiness), is lost (sadness), was not expected (surprise), or is merely so (neutral).
Half of the sentences name the emotion, the others leave it to what happens. No sentence was taken from a corpus.
"""

from __future__ import annotations

import numpy as np

from affuse.labels import EKMAN

__all__ = ["situations"]

_EVENTS: dict[str, str] = {
    "anger": """the technician cancelled the visit for the fourth time; your firm never answered a single letter of
        mine; the landlord raised the rent again; they sold me a broken phone; that driver scratched my car and
        drove off; my flatmate read my diary; somebody blamed me for a mistake that was not mine; you cut off the
        internet without notice; he made fun of my son; the plumber turned up two hours late again; they ignored
        every complaint; you billed me for something I never ordered; she cheated on me; he talked down to my
        mother; they keep passing me from one department to the next; the insurance refuses to pay for the damage;
        he spent all our money behind my back; you threw away my drawings; they gave my seat to somebody else; my
        colleague keeps interrupting me; the shop will not take back the faulty mixer; you deleted my account by
        mistake; he parked in front of our gate on purpose; they let us wait in the rain for nothing""",
    "disgust": """there are mouse droppings in the flour; the bread is covered with mould; a slug is crawling over
        the salad; somebody stuck chewing gum under my chair; there was blood on the towels; the cellar is full of
        sewage; somebody left dirty nappies in the sink; there were worms in the apple; the dog did its business on
        the carpet; the fish stinks; he licked the spoon and put it back into the pot; the carpet smells of urine;
        there is snot on the screen; the sink is full of slimy dishes; he burped into my face; there was a
        fingernail in the rice; the glass was smeared with lipstick and grease; the mattress is full of bugs; the
        sauce was full of flies; he wears the same pants for weeks; the eggs are rotten; somebody was sick all over
        the back seat; the drain is clogged with hair; she sneezed on the buffet""",
    "fear": """somebody is in our garden with a torch; the brakes might fail; the bridge may collapse; they could
        throw us out of the flat; my son might not survive; the fever will not go down; they will arrest my brother;
        a strange car waits in front of our house every night; the water is rising and we cannot get out; the tumour
        could come back; there is gas in the kitchen; I could lose everything; the baby has stopped breathing; a
        snake is under the bed; he said that he would kill me; I have to walk through the forest at night; my
        husband could find out where we live; the tests are bad; the boat was about to turn over; they are shooting
        in our street; I will have to speak before the whole board; the lift is stuck between two floors; the lights
        went out and somebody screamed; the exam is tomorrow and I cannot remember anything""",
    "happiness": """I got the job; the operation went well; our son was born this morning; we found our dream house;
        my team came first; the visa came through; you thought of my birthday; the technician fixed it in five
        minutes; the dinner was superb; the sun is shining and we are at the sea; I can walk again; my sister is
        coming home; we have paid off the house; the room has a marvellous view; your advice helped me a lot; the
        concert was amazing; my book will be printed; the puppy has settled in so well; we are having a baby; the
        whole family sang together; the staff were friendly and quick; I got the best grade of the class; they gave
        me flowers; we danced until the morning""",
    "sadness": """my grandmother died in spring; our dog ran away and never came back; the doctors could not help my
        brother; my marriage is over; nobody remembers me here; the old school was pulled down; my child is in
        hospital again; he never wrote back; I will never see her again; all my friends have left the village; I was
        not good enough for the team; we lost the baby in the third month; I have nobody to talk to; my grandfather
        no longer knows my name; the factory is closing and everybody is being let go; she is slowly fading away; I
        gave up my dream of becoming a singer; my father has only a few weeks left; he left without a word; it is
        the first Christmas without her; the wedding had to be called off; our home is gone; I let everybody down;
        they gave the little dog to somebody else""",
    "surprise": """you are left-handed; they moved to Iceland; the museum is free of charge; she speaks Welsh; he
        used to be a pilot; it is already midnight; the shop sells bicycles too; you have five brothers; they got
        married in secret; the car started at once; the key was in my pocket all the time; our old dog can swim; the
        price fell by half; there is a swimming pool on the roof; the letter took only one day; your father plays in
        a band; he grew a beard; the whole street is one colour; she turned out to be my boss's daughter; they
        closed the airport; a deer walked into the office; the quiet boy sings opera; the tower is that old; you
        know my cousin""",
    "neutral": """the office opens at half past eight; your order has been passed on to the warehouse; the bus stops
        in front of the town hall; we have two rooms on the ground floor; I have been with the firm since last year;
        the form has three pages; the lesson takes forty-five minutes; my reference number ends in seven; the
        printer stands by the window; the price includes breakfast; you can pay by card or in cash; I grew up in a
        small town and moved to the city later; the battery lasts for about ten hours; the next train goes in twenty
        minutes; the meeting room is to the left; he works in accounting; the warranty ends in October; the parcel
        weighs two kilos; we sell paper and pens; she is on the phone; the key is under the mat; the class has
        twelve pupils; my shift starts at six; the second switch turns on the light""",
}
_WORDS: dict[str, str] = {
    "anger": """angry; furious; mad; annoyed; fuming; outraged; irritated; infuriated; cross; beside myself with
        rage; seeing red; enraged""",
    "disgust": "disgusted; revolted; sickened; repelled; nauseated; about to throw up; appalled",
    "fear": """afraid; scared; terrified; frightened; worried; nervous; anxious; panicking; scared stiff; on edge;
        shaking like a leaf; in fear""",
    "happiness": """happy; glad; delighted; overjoyed; thrilled; pleased; over the moon; on cloud nine; on top of
        the world; grateful; proud; cheerful; satisfied""",
    "sadness": """sad; heartbroken; miserable; unhappy; depressed; devastated; lonely; down in the dumps; full of
        grief; disappointed; sorrowful""",
    "surprise": "surprised; astonished; amazed; stunned; taken aback; speechless; startled; astounded",
}
_NAMED = (
    "I am {word}: {event}.",
    "I'm so {word}, {event}!",
    "{Event}, which makes me {word}.",
    "{Event}. I feel {word}.",
    "It made me {word} to hear that {event}.",
    "All of us are {word} because {event}.",
)
_LEFT: dict[str, str] = {
    "anger": """{Event}!; {Event}, this is a disgrace!; {Event}, and nobody apologises!; How can it be that
        {event}?; I demand an explanation: {event}!; {Event}, I will not put up with that any longer!; {Event}. Are
        you serious?; That is the last straw: {event}!; {Event}. What an impudence!; I want to complain, {event}.""",
    "disgust": """Ugh, {event}.; Yuck, {event}!; Ew, {event}!; {Event}, that is gross.; {Event}, how disgusting!;
        {Event}, I feel sick.; {Event}. That is revolting.; Phew, {event}!; {Event}, I want to puke.; {Event}, so
        filthy!""",
    "fear": """{Event}!; Help, {event}!; {Event}, what shall I do?; What if {event}?; {Event}, please come quickly!;
        Oh no, {event}!; {Event}, my heart is racing.; I lie awake because {event}.; I hardly dare to breathe,
        {event}.; {Event}, get me out of here!""",
    "happiness": """{Event}!; Great, {event}!; {Event}, how wonderful!; {Event}, many thanks!; Hurray, {event}!;
        {Event}, I love it!; Guess what: {event}!; {Event}, what a joy!; {Event}, I could hug everybody.; Lovely,
        {event}.""",
    "sadness": """{Event}.; {Event}, and I weep.; {Event}, it hurts.; Sadly, {event}.; {Event}, and life has lost
        its colour.; {Event}. I don't know how to go on.; {Event}, my heart aches.; {Event}, what a loss.; If only
        it were not true: {event}.; {Event}, I feel empty.""",
    "surprise": """What, {event}?; Really, {event}?; Wow, {event}!; {Event}? You must be joking!; Gosh, {event}!; I
        did not see that coming: {event}!; {Event}? Since when?; Oh, {event}?; Well I never, {event}!; {Event},
        would you believe it?; Hang on, {event}?; Just like that, {event}!""",
    "neutral": """{Event}.; As far as I know, {event}.; It says here that {event}.; For your information: {event}.;
        {Event}, as usual.; Let me see, {event}.; Please note that {event}.; Yes, {event}.; He told me that
        {event}.; Could you check whether {event}?; So {event}, is that right?; Okay, {event}.""",
}


def _parts(text: str) -> list[str]:
    return [" ".join(part.split()) for part in text.split(";")]


def situations(each: int, seed: int) -> tuple[list[str], np.ndarray]:
    """As many different sentences of every emotion, and their emotions over `EKMAN`, in the order of the emotions."""
    rng = np.random.default_rng(seed)
    texts: list[str] = []
    for label in EKMAN.labels:
        mine = _sentences(label)
        texts += [mine[i] for i in np.sort(rng.permutation(len(mine))[:each])]
        if len(mine) < each:
            raise ValueError(f"only {len(mine)} different sentences of {label}; {each} were asked for")
    return texts, np.repeat(np.arange(len(EKMAN)), each)


def _sentences(label: str) -> list[str]:
    """All sentences of one emotion, each once."""
    words = _parts(_WORDS[label]) if label in _WORDS else []
    found = []
    for i, event in enumerate(_parts(_EVENTS[label])):
        forms = [(form, "") for form in _parts(_LEFT[label])]
        forms += [(_NAMED[(i + j) % len(_NAMED)], word) for j, word in enumerate(words)]
        found += [form.format(event=event, Event=event[0].upper() + event[1:], word=word) for form, word in forms]
    return list(dict.fromkeys(found))
