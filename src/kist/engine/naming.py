"""Names for containers that were given none: two words that follow from the id, so that nothing has to remember."""

from __future__ import annotations

_FIRST = """
amber ample apt azure bold brave brisk bright calm candid civil clear clever cosy crisp deft early easy exact fair fine
firm fleet fond frank free fresh gentle glad golden good grand green hardy hasty honest humble jolly keen kind large
light lively loyal lucid lucky mellow merry mild modest neat nimble noble patient plain polite prompt proud quick quiet
rapid rare ready ripe round royal sharp silent silver simple sleek smart smooth snug sober solid sound spry stable
steady still sturdy sunny swift tidy tough trim trusty vivid warm wise witty young
"""
_SECOND = """
acorn alder anchor apple arbor ash aspen badger barley basket beacon beaver beech birch bobbin bramble briar brook cairn
casket cedar chest clover cobble copper coral corgi crane creek curlew dipper drum eagle elder elm ember falcon fern
ferry finch flint fox gannet garnet gorse grouse hamlet harbour hare hawk hazel heather heron hollow ibex inlet island
ivy jasper kestrel kiln kist larch lark lichen linnet loch lynx maple marten meadow merlin mill moss oak orchard osprey
otter owl pebble pike pine plover poplar quail quartz raven reed ridge river robin rowan saddle sedge siskin sorrel
sparrow spruce stoat stone swallow tarn teal thicket thistle trout valley walnut willow wren yarrow yew
"""


def name_of(id: str) -> str:
    """For example `calm_heron`."""
    number, first, second = int(id[:12], 16), _FIRST.split(), _SECOND.split()
    return f"{first[number % len(first)]}_{second[number // len(first) % len(second)]}"


def names_of(id: str) -> list[str]:
    """More of them, for when the first is taken."""
    return [name_of(id), *(f"{name_of(id)}{int(id[12 + i : 16 + i], 16) % 1000}" for i in range(0, 40, 4))]
