// Dots on a canvas, coloured by group: pointing at one shows its picture, its label and its groups. Needs no network.
(box, map) => {
    const ink = "#333333", paper = "#ffffff", reach = 12, radius = 3.5, large = 72;
    const make = (parent, tag, style, words = "") => {
        const element = parent.appendChild(document.createElement(tag));
        element.style.cssText = style;
        element.textContent = words;
        return element;
    };
    box.replaceChildren();
    box.style.cssText = `position: relative; max-width: ${map.width}px; padding: 6px; box-sizing: border-box;
        background: ${paper}; color: ${ink}; font: 13px sans-serif; color-scheme: light`;
    const head = make(box, "div", "display: flex; flex-wrap: wrap; gap: 4px 14px; align-items: center");
    const menu = make(head, "select", "font: inherit");
    const legend = make(head, "span", "display: flex; flex-wrap: wrap; gap: 4px 14px");
    const canvas = make(box, "canvas", "display: block; width: 100%; touch-action: pan-y");
    const hint = make(box, "small", "color: #666666", map.hint);
    const tip = make(box, "div", `position: absolute; display: none; pointer-events: none; width: 150px;
        padding: 6px; background: ${paper}; border: 1px solid #999999; border-radius: 4px; z-index: 1;
        box-shadow: 0 2px 6px #00000040; overflow-wrap: anywhere`);
    const image = make(tip, "div", `width: ${large}px; height: ${large}px; margin: 0 auto 4px;
        background: url(${map.thumbnails.url}); background-size: ${map.thumbnails.columns * large}px auto`);
    const words = make(tip, "div", "text-align: center");
    const names = Object.keys(map.groups);
    names.forEach((name) => make(menu, "option", "", `colours: ${name}`));
    menu.hidden = names.length < 2;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", map.hint);
    [canvas.width, canvas.height] = [2 * map.width, 2 * map.height]; // sharp on screens with small pixels, too
    const pen = canvas.getContext("2d");
    pen.scale(2, 2);

    const groupsOf = (name) => map.groups[name];
    const colourOf = (name, i) => map.colours[groupsOf(name).ids[i]];
    const disc = (i, colour, size) => {
        pen.beginPath();
        pen.arc(map.x[i], map.y[i], size, 0, 2 * Math.PI);
        pen.fillStyle = colour;
        pen.fill();
    };
    const draw = (pointedAt) => {
        const name = names[menu.selectedIndex];
        pen.fillStyle = paper;
        pen.fillRect(0, 0, map.width, map.height);
        pen.globalAlpha = 0.75;
        map.x.forEach((_, i) => disc(i, colourOf(name, i), radius));
        pen.globalAlpha = 1;
        if (pointedAt !== undefined) [[ink, 8], [paper, 6.5], [colourOf(name, pointedAt), 5]].forEach(
            ([colour, size]) => disc(pointedAt, colour, size));
    };
    const nearest = (x, y) => {
        let found, least = reach ** 2;
        map.x.forEach((_, i) => {
            const distance = (map.x[i] - x) ** 2 + (map.y[i] - y) ** 2;
            if (distance <= least) [found, least] = [i, distance];
        });
        return found;
    };
    const point = (event) => {
        const { width } = canvas.getBoundingClientRect(), scale = width / map.width;
        const i = nearest(event.offsetX / scale, event.offsetY / scale);
        draw(i);
        tip.style.display = i === undefined ? "none" : "block";
        if (i === undefined) return;
        const { columns } = map.thumbnails;
        image.style.backgroundPosition = `-${(i % columns) * large}px -${Math.floor(i / columns) * large}px`;
        words.textContent = map.labels[i];
        names.forEach((name) => make(words, "div", "color: #666666", groupsOf(name).names[groupsOf(name).ids[i]]));
        const [x, y] = [canvas.offsetLeft + map.x[i] * scale, canvas.offsetTop + map.y[i] * scale];
        tip.style.left = `${x < box.clientWidth / 2 ? x + 14 : x - 14 - tip.offsetWidth}px`;
        tip.style.top = `${Math.max(0, y < canvas.offsetTop + canvas.offsetHeight / 2 ? y : y - tip.offsetHeight)}px`;
    };
    const choose = () => {
        legend.replaceChildren();
        groupsOf(names[menu.selectedIndex]).names.forEach((name, i) => {
            const entry = make(legend, "span", "white-space: nowrap");
            make(entry, "span", `display: inline-block; width: 10px; height: 10px; margin-right: 5px;
                border-radius: 5px; background: ${map.colours[i]}`);
            entry.append(name);
        });
        draw();
    };
    menu.addEventListener("change", choose);
    for (const event of ["pointermove", "pointerdown"]) canvas.addEventListener(event, point);
    canvas.addEventListener("pointerleave", () => { tip.style.display = "none"; draw(); });
    choose();
}
