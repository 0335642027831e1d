"""How the page looks and how it is read aloud: what gradio's own look and its own words leave open."""

import gradio as gr

SYSTEM_FONT, SYSTEM_MONO = ("system-ui", "sans-serif"), ("ui-monospace", "monospace")
# classes of elements that the page's parts have and the rules below name
EXAMPLE_PICTURES, SAID, MADE = "example-pictures", "said", "made"

STYLE = f"""
.{EXAMPLE_PICTURES} {{ flex-wrap: wrap; gap: 8px }}
.{EXAMPLE_PICTURES} button {{ flex: none; min-width: 0; padding: 0; font-size: 0; overflow: hidden }}
.{EXAMPLE_PICTURES} button img {{ width: 76px; height: 76px; margin: 0 }}
/* gradio's own grey has 1.9 to 1 on white */
[data-testid^="waveform-"] time, [data-testid^="waveform-"] .controls button {{
  color: var(--body-text-color-subdued) !important; border-color: currentColor
}}
/* whoever uses the keyboard sees where they are, in texts and on sliders, too */
:focus-visible {{ outline: 2px solid var(--color-accent) !important; outline-offset: 1px }}
/* what is not made yet takes little room */
.{MADE} .empty {{ min-height: 4rem !important }}
/* gradio writes a dot behind its only link, too */
footer .divider {{ display: none }}
"""

# What gradio's own page does not say: that what is found out about portrait and speech, and that a job has ended, is
# to be read aloud; which parts are open; that the choices of one question are one group, with its name, through which
# the arrow keys go (gradio makes each choice a group of its own, again whenever one is chosen).
SAY_WHAT_IS_SEEN = f"""() => {{
  const say = () => {{
    for (const said of document.querySelectorAll(".block.{SAID}:not([aria-live])")) {{
      said.setAttribute("aria-live", "polite");
    }}
    for (const part of document.querySelectorAll("button.label-wrap")) {{
      part.setAttribute("aria-expanded", part.classList.contains("open"));
    }}
    for (const choices of document.querySelectorAll("fieldset:has([data-testid=block-info])")) {{
      const name = choices.querySelector("[data-testid=block-info]").textContent.trim();
      choices.setAttribute("aria-label", name);
      for (const choice of choices.querySelectorAll("input[type=radio]")) {{
        if (choice.name !== name) choice.name = name;
      }}
    }}
  }};
  say();
  new MutationObserver(say).observe(
    document.body, {{ subtree: true, childList: true, attributeFilter: ["name", "class"] }}
  );
}}"""


def readable_theme() -> gr.themes.Base:
    """Make gradio's theme, with the system's letters, which stand out from their ground by 4.5 to 1 at least."""
    grey, pale = "*neutral_600", "*neutral_300"
    return gr.themes.Base(font=SYSTEM_FONT, font_mono=SYSTEM_MONO).set(
        body_text_color_subdued=grey,
        body_text_color_subdued_dark=pale,
        block_label_text_color=grey,
        block_title_text_color=grey,
        input_placeholder_color=grey,
        input_placeholder_color_dark=pale,
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_700",
        button_large_padding="*spacing_lg *spacing_md",  # three of them fit beside each other
    )
