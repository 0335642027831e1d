"""The words that `sentences` builds from, by their place in a sentence; "_" is a space inside an expression."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.replace("_", " ") for word in text.split())


NAMES = _words("""
    Alice Ben Charlotte David Emma Felix Grace Hugh Isabel Joy Kevin Lucy Martin Nora Oscar Paula Quentin Ruth
    Steven Thora Vivian Walter Yusuf Zoe Abigail Boyd Cecil Dorothy Ethan Faith George Heather Judith Keith Leroy
    Matthew
""")

PERSONS = _words("""
    teacher driver baker farmer doctor neighbour sailor painter child father mother brother sister cousin uncle
    judge lawyer waiter singer player writer plumber tailor dentist soldier captain pilot nurse student manager
    gardener hunter joiner poet engineer visitor stranger king queen boy girl woman man friend
""")

THINGS = _words("""
    apple basket blanket boat book bottle bowl box bridge brush bucket button cabbage cake camera candle carpet
    chair cheese clock cloth coat coin cup curtain drawer drum engine envelope feather fence fish flower fork
    garden gate glove hammer hat horse house jacket jar kettle key kite knife ladder lamp leaf lemon letter lock
    machine magazine map measure melon mirror mouse mug needle newspaper notebook onion orange oven paper peach
    pear pencil photograph piano picture pillow pipe plate potato pudding pump purse puzzle radio ribbon ring robe
    rope rug sandwich saw scarf shelf ship shirt shoe shovel soap sofa spoon stamp stone stove suitcase table
    television thimble thread ticket tooth towel toy treasure tree trumpet umbrella vase vegetable violin wagon
    wallet watch wheel whistle wire yacht zip
""")

ANIMALS = _words("""
    bear beaver bird cat chicken cow deer dog donkey duck eagle elephant fox frog goat goose hedgehog lamb lion
    mole monkey owl pigeon pony rabbit seal sheep snake spider swan thrush tiger turkey turtle whale wolf zebra
""")

PLACES = _words("""
    airport beach bakery barn bay cellar church city coast corner factory field forest garage harbour hill hospital
    island kitchen lake library market meadow mountain museum office orchard park path playground river road roof
    school shop square station street theatre tower town valley village yard zoo
""")

ADJECTIVES = _words("""
    ancient big black blue bright broad broken brown busy careful cheap clean clever cold cool curious dark dirty
    dry early easy empty enormous famous fat fine foolish fresh friendly full funny gentle golden good great green
    grey happy heavy huge hungry large lazy little long loose loud lucky narrow new nice noisy old orange pale
    perfect pink plain poor precious pretty proud purple quick quiet rare red rich rough round royal rusty sharp
    shiny short shy silver simple slow small smooth soft sour square strange strong sweet tall thick thin tidy tiny
    unusual useful usual warm weak wet white whole wide wild wise wooden wrong yellow young
""")

TRANSITIVE_PAST = _words("""
    admired borrowed bought brought carried catalogued changed chose cleaned collected counted covered described
    discovered drew dropped examined fetched finished fixed forgot found gave gathered held hid imagined kept
    kicked lifted liked lost loved made measured mended moved needed noticed offered opened owned packed painted
    paid photographed picked polished praised pulled pushed put reached received remembered repaired returned saved
    saw shared showed sold spoiled stole threw took touched treasured tried used valued wanted washed watched
    weighed wrapped
""")

TRANSITIVE_BASE = _words("""
    admire borrow buy bring carry change choose clean collect count cover describe discover draw drop enjoy examine
    fetch find finish fix forget gather give hide hold imagine join keep kick lift like lose love make measure mend
    move need notice offer open own pack paint photograph pick polish praise pull push reach receive remember
    repair return save see sell share show spoil steal take throw touch try use wash watch weigh wrap
""")

INTRANSITIVE_PAST = _words("""
    arrived began breathed called climbed coughed cried danced disappeared dreamed fell flew froze hurried jumped
    laughed left listened moved paused played prayed rested rushed sang sat shivered shouted slept smiled sneezed
    spoke stood stopped studied swam talked thought travelled waited walked whispered worked yawned
""")

ADVERBS = _words("""
    again already always badly boldly bravely calmly carefully cheerfully early easily gladly happily lately loudly
    neatly nervously never now often perhaps politely quickly quietly rarely rudely sadly slowly smoothly softly
    sometimes soon suddenly thoughtfully today together twice usually warmly
""")

TIMES = _words("""
    on_Monday on_Tuesday on_Wednesday on_Thursday on_Friday on_Saturday on_Sunday in_January in_February in_March
    in_April in_May in_June in_July in_August in_September in_October in_November in_December this_morning
    this_evening yesterday last_year at_noon at_midnight before_breakfast after_lunch during_the_storm
    in_the_spring in_the_autumn three_years_ago a_month_ago all_through_the_night
""")

NUMBERS = _words("""
    one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety
""")

PREPOSITIONS = _words("""
    above across behind below beneath beside beyond from inside near over past through towards under
""")

OWNERS = _words("the the the a a my your his her our their this that every another")

MODALS = _words("can could should would might must will wants_to used_to forgot_to")
