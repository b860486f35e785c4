// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

package l3afd

import (
	"fmt"
	"html"
	"math"
	"strings"
	"time"
)

// line is a series by the name that the legend gives it.
type line struct {
	name string
	series
}

// shownPanel is a panel with what it shows.
type shownPanel struct {
	panel
	lines []line
}

// pixels of a cell of Grafana's grid, which is 24 cells wide, and around panels and within
const (
	cellWidth, cellHeight = 40, 38
	gap                   = 4
	inset                 = 10
	legendHeight          = 15
)

var colors = []string{"#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#b877d9", "#ff7383"}

// draw makes an SVG of a dashboard, after the manner of Grafana's dark theme, of what came between two times.
func draw(title string, panels []shownPanel, from, to time.Time) string {
	height := 0
	for _, it := range panels {
		height = max(height, it.GridPos.Y+it.GridPos.H)
	}
	const header = 40
	var svg strings.Builder
	fmt.Fprintf(&svg, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="11">`,
		24*cellWidth, header+height*cellHeight)
	fmt.Fprint(&svg, "\n", `<rect width="100%" height="100%" fill="#111217"/>`, "\n")
	text(&svg, inset, 26, 16, "#ccccdc", "start", title)
	for _, it := range panels {
		area := area{
			x: float64(it.GridPos.X*cellWidth + gap), y: float64(header + it.GridPos.Y*cellHeight + gap),
			w: float64(it.GridPos.W*cellWidth - 2*gap), h: float64(it.GridPos.H*cellHeight - 2*gap),
		}
		fmt.Fprintf(&svg, `<rect x="%.0f" y="%.0f" width="%.0f" height="%.0f" rx="2" fill="#181b1f" stroke="#2a2d33"/>`+"\n",
			area.x, area.y, area.w, area.h)
		text(&svg, area.x+inset, area.y+18, 12, "#ccccdc", "start", it.Title)
		if it.Type == "stat" {
			drawStat(&svg, it, area, to)
		} else {
			drawSeries(&svg, it, area, from, to)
		}
	}
	svg.WriteString("</svg>\n")
	return svg.String()
}

type area struct{ x, y, w, h float64 }

func text(svg *strings.Builder, x, y float64, size int, color, anchor, said string) {
	fmt.Fprintf(svg, `<text x="%.1f" y="%.1f" font-size="%d" fill="%s" text-anchor="%s">%s</text>`+"\n",
		x, y, size, color, anchor, html.EscapeString(said))
}

// drawStat shows the last value of each line in a box of its own.
func drawStat(svg *strings.Builder, it shownPanel, area area, now time.Time) {
	height := (area.h - 30) / float64(max(1, len(it.lines)))
	for n, line := range it.lines {
		y := area.y + 26 + float64(n)*height
		said, color := it.inWords(line.values[len(line.values)-1], now)
		fmt.Fprintf(svg, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"/>`+"\n",
			area.x+4, y, area.w-8, height-3, color)
		text(svg, area.x+inset, y+height/2+3, 11, "#ffffff", "start", line.name)
		text(svg, area.x+area.w-inset, y+height/2+6, 17, "#ffffff", "end", said)
	}
}

// inWords is a value in the unit of the panel, and the color of its box.
func (it *shownPanel) inWords(value float64, now time.Time) (string, string) {
	const green, red, blue = "#37872d", "#c4162a", "#1f60c4"
	for _, mapping := range it.FieldConfig.Defaults.Mappings {
		if option, ok := mapping.Options[fmt.Sprint(value)]; ok {
			return option.Text, map[string]string{"green": green, "red": red}[option.Color]
		}
	}
	switch it.FieldConfig.Defaults.Unit {
	case "dateTimeFromNow":
		ago := now.Sub(time.UnixMilli(int64(value))).Round(time.Second)
		return fmt.Sprintf("%v ago", ago), blue
	case "percentunit":
		if value < 0.99 {
			return fmt.Sprintf("%.1f %%", 100*value), red
		}
		return fmt.Sprintf("%.4g %%", 100*value), green
	default:
		return fmt.Sprintf("%.4g", value), blue
	}
}

// drawSeries plots all lines over time.
func drawSeries(svg *strings.Builder, it shownPanel, area area, from, to time.Time) {
	legends := float64(legendHeight * len(it.lines))
	plot := line2d{
		left: area.x + 48, right: area.x + area.w - inset,
		top: area.y + 30, bottom: area.y + area.h - legends - 22,
		from: float64(from.Unix()), to: float64(to.Unix()), most: mostOf(it.lines),
	}
	for n := range 5 {
		value := plot.most * float64(n) / 4
		y := plot.y(value)
		fmt.Fprintf(svg, `<path d="M%.1f %.1fH%.1f" stroke="#2a2d33"/>`+"\n", plot.left, y, plot.right)
		text(svg, plot.left-6, y+4, 10, "#8e8e9a", "end", short(value))
	}
	for n := range 5 {
		at := plot.from + (plot.to-plot.from)*float64(n)/4
		anchor := "middle"
		if n == 4 {
			anchor = "end"
		}
		text(svg, plot.x(at), plot.bottom+14, 10, "#8e8e9a", anchor, time.Unix(int64(at), 0).UTC().Format("15:04:05"))
	}
	for n, line := range it.lines {
		color := colors[n%len(colors)]
		var path strings.Builder
		for i, value := range line.values {
			if math.IsNaN(value) || math.IsInf(value, 0) {
				continue
			}
			command := "L"
			if path.Len() == 0 {
				command = "M"
			}
			fmt.Fprintf(&path, "%s%.1f %.1f", command, plot.x(line.times[i]), plot.y(value))
		}
		fmt.Fprintf(svg, `<path d="%s" fill="none" stroke="%s" stroke-width="1.5"/>`+"\n", path.String(), color)
		y := area.y + area.h - legends + float64(n*legendHeight) + 7
		fmt.Fprintf(svg, `<rect x="%.1f" y="%.1f" width="12" height="3" fill="%s"/>`+"\n", area.x+inset, y-4, color)
		text(svg, area.x+inset+18, y, 11, "#ccccdc", "start", line.name)
		last := short(line.values[len(line.values)-1])
		text(svg, plot.right, y, 11, "#ccccdc", "end", fmt.Sprintf("last %s   max %s", last, short(mostIn(line))))
	}
}

// line2d maps times and values to pixels.
type line2d struct{ left, right, top, bottom, from, to, most float64 }

func (it line2d) x(at float64) float64 {
	return it.left + (at-it.from)/(it.to-it.from)*(it.right-it.left)
}

func (it line2d) y(value float64) float64 {
	return it.bottom - value/it.most*(it.bottom-it.top)
}

// mostOf is where the axis ends: a round number that no line is above.
func mostOf(lines []line) float64 {
	most := 0.0
	for _, line := range lines {
		most = max(most, mostIn(line))
	}
	if most == 0 {
		return 1
	}
	digit := math.Pow(10, math.Floor(math.Log10(most)))
	for _, times := range []float64{1, 2, 4, 6, 8, 10} {
		if most <= times*digit {
			return times * digit
		}
	}
	return most
}

func mostIn(line line) float64 {
	most := 0.0
	for _, value := range line.values {
		if !math.IsNaN(value) && !math.IsInf(value, 0) {
			most = max(most, value)
		}
	}
	return most
}

func short(value float64) string {
	if value >= 1000 {
		return fmt.Sprintf("%.3gk", value/1000)
	}
	return fmt.Sprintf("%.3g", value)
}
