// Runs in the page and returns what is wrong with it.
const wrong = [];
const name = (e) => (e.getAttribute("aria-label") || e.textContent || "").trim() ||
    (e.getAttribute("aria-labelledby") || "").split(" ").map((id) => document.getElementById(id)?.textContent || "").join("");
if (document.documentElement.lang !== "en") wrong.push("lang");
if (document.title === "") wrong.push("title");
if (document.querySelectorAll("main").length !== 1) wrong.push("one main");
if (document.querySelectorAll("h1").length !== 1) wrong.push("one h1");
if (document.querySelector("a.skip").getAttribute("href") !== "#" + document.querySelector("main").id) wrong.push("skip link");
for (const e of document.querySelectorAll("input:not([type=hidden]), textarea, select"))
    if (!e.labels.length) wrong.push("label of " + e.name);
for (const e of document.querySelectorAll("a, button, summary")) if (!name(e)) wrong.push("name of " + e.outerHTML);
for (const e of document.querySelectorAll("section, aside")) if (!name(e)) wrong.push("name of " + e.className);
for (const e of document.querySelectorAll("[aria-labelledby]"))
    for (const id of e.getAttribute("aria-labelledby").split(" "))
        if (!document.getElementById(id)) wrong.push("no element " + id);
const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
if (new Set(ids).size !== ids.length) wrong.push("ids are not unique");
let level = 0;
for (const h of document.querySelectorAll("h1, h2, h3, h4")) {
    const next = Number(h.tagName[1]);
    if (next > level + 1) wrong.push("heading jumps at " + h.textContent);
    level = next;
}
for (const e of document.querySelectorAll("main *")) {
    const inner = e.getBoundingClientRect(), outer = e.parentElement.getBoundingClientRect();
    if (e.matches("section, aside, form, pre, dl, ul") && inner.right > outer.right + 1) wrong.push("sticks out: " + e.tagName + " " + e.className);
}
if (document.documentElement.scrollWidth > window.innerWidth) wrong.push("scrolls sideways");
const parse = (c) => { const m = c.match(/[\d.]+/g).map(Number); return { rgb: m.slice(0, 3), a: m[3] ?? 1 }; };
const over = (top, under) => top.rgb.map((v, i) => v * top.a + under[i] * (1 - top.a));
const light = (rgb) => rgb.map((v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; })
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const behind = (e) => e ? (({ backgroundColor }) => over(parse(backgroundColor), behind(e.parentElement)))(getComputedStyle(e)) : [255, 255, 255];
for (const e of document.querySelectorAll("main *, header *")) {
    if (![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) || e.closest(".sr, [disabled]")) continue;
    const ground = behind(e), ink = over(parse(getComputedStyle(e).color), ground);
    const [a, b] = [light(ink), light(ground)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) wrong.push("contrast " + ratio.toFixed(2) + " of " + e.textContent.trim().slice(0, 40));
}
return wrong;
